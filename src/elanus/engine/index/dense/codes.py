"""How an index of faiss holds vectors: as they are, or as shorter codes that stand for them.

Codes decide which rows are looked at; hits are scored by the vectors themselves. So a ``refine``
of Milvus needs no second, finer code here: it says how many rows are looked at for each hit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from elanus.engine.index.dense.family import Source, largest_code
from elanus.engine.index.dense.neighbours import Floats
from elanus.engine.index.library import faiss, faiss_metric
from elanus.errors import InvalidParameter
from elanus.model.types import MetricType

TRAINING_ROWS = 16_384
WIDE_DIM = 512
"""From so many dimensions on one bit for each tells rows apart; the fewer there are, the more the
errors of such codes weigh: of 100 dimensions they miss a tenth of the nearest rows, two bits a
hundredth."""
RESIDUAL_TRAINING_ROWS = 8_192
"""Training a residual quantiser takes a second for each thousand rows of 768 dimensions."""
ITERATIONS = 10
_INT8 = int(faiss.ScalarQuantizer.QT_8bit_direct_signed)
_LARGEST_INT8 = 127.0
SCALAR_TYPES = {
    "sq4": "QT_4bit",
    "sq4u": "QT_4bit_uniform",
    "sq6": "QT_6bit",
    "sq8": "QT_8bit",
    "fp16": "QT_fp16",
    "bf16": "QT_bf16",
}


@dataclass(frozen=True, slots=True)
class Coding:
    """classes: what faiss may hold such codes in. relative_cost: of comparing a query with a code,
    measured beside comparing it with a vector of float32."""

    classes: tuple[str, ...]
    relative_cost: float


CODINGS = {
    "HNSW": Coding(("IndexFlat", "IndexFlatL2", "IndexFlatIP", "IndexScalarQuantizer"), 1.0),
    "HNSW_SQ": Coding(("IndexScalarQuantizer",), 0.9),
    "HNSW_PQ": Coding(("IndexPQ",), 0.8),
    "HNSW_PRQ": Coding(("IndexProductResidualQuantizer",), 1.5),
    "DISKANN": Coding(("IndexRaBitQ",), 0.6),
}


def make_codes(index_type: str, source: Source) -> Any | None:
    """An index of faiss with the trained codes of all rows; None if an index of this type holds
    the vectors themselves."""
    codes = _untrained(index_type, source)
    if codes is None:
        return None
    limit = RESIDUAL_TRAINING_ROWS if index_type == "HNSW_PRQ" else TRAINING_ROWS
    codes.train(source.sample(limit))
    scale = _scale(source) if index_type == "HNSW" and _is_scaled(source) else None
    for piece in source.pieces():
        codes.add(piece if scale is None else np.rint(piece * scale))
    return codes


def _is_scaled(source: Source) -> bool:
    """Whether rows of int8 are compared by their direction. Divided by their lengths they are no
    int8 any more; multiplied with one number for all, they nearly are, and rank the same."""
    return source.vectors.dtype == np.int8 and source.metric is MetricType.COSINE


def _scale(source: Source) -> np.float32:
    """What makes the largest number of all rows of unit length the largest int8."""
    largest = max((float(np.abs(piece).max(initial=0)) for piece in source.pieces()), default=0.0)
    return np.float32(_LARGEST_INT8 / largest if largest > 0 else 1.0)


def holds_scaled_int8(storage: Any, metric: MetricType) -> bool:
    """Whether the codes of an opened index are those of rows that ``_is_scaled`` is about."""
    is_scalar = isinstance(storage, faiss.IndexScalarQuantizer)
    return is_scalar and storage.sq.qtype == _INT8 and metric is MetricType.COSINE


def scaled_to_int8(queries: Floats) -> Floats:
    """Each query, float32 (nq, dim), with its largest number made the largest int8, rounded."""
    largest = np.abs(queries).max(axis=1, keepdims=True, initial=1e-30)
    scaled: Floats = np.rint(queries * (np.float32(_LARGEST_INT8) / largest))
    return scaled


def _untrained(index_type: str, source: Source) -> Any | None:
    dim, metric = source.dim, faiss_metric(source.metric)
    match index_type:
        case "HNSW":
            own = _INT8 if _is_scaled(source) else own_scalar_type(source)
            return None if own is None else faiss.IndexScalarQuantizer(dim, own, metric)
        case "HNSW_SQ":
            kind = scalar_type(source.text("sq_type", "sq8"))
            return faiss.IndexScalarQuantizer(dim, kind, metric)
        case "HNSW_PQ":
            bits = min(source.number("nbits", 8), largest_code(source.row_count))
            codes = faiss.IndexPQ(dim, source.number("m", 32), bits, metric)
            codes.pq.cp.niter = ITERATIONS
            codes.pq.cp.min_points_per_centroid = 1
            return codes
        case "HNSW_PRQ":
            return _residual(source)
        case "DISKANN":
            return faiss.IndexRaBitQ(dim, metric, 1 if dim >= WIDE_DIM else 2)
    raise InvalidParameter("no codes", expected=" or ".join(CODINGS), actual=index_type)


def _residual(source: Source) -> Any:
    bits = min(source.number("nbits", 8), largest_code(source.row_count))
    # Tables of inner products make a comparison a few additions; L2 needs the row's length too.
    is_l2 = source.metric is MetricType.L2
    search_type = (
        faiss.AdditiveQuantizer.ST_norm_float if is_l2 else faiss.AdditiveQuantizer.ST_LUT_nonorm
    )
    return faiss.IndexProductResidualQuantizer(
        source.dim,
        source.number("m", 2),
        source.number("nrq", 2),
        bits,
        faiss_metric(source.metric),
        search_type,
    )


def scalar_type(name: str) -> int:
    """faiss's number of a scalar quantiser, by Milvus's name in lower case."""
    return int(getattr(faiss.ScalarQuantizer, SCALAR_TYPES[name]))


def own_scalar_type(source: Source) -> int | None:
    """Of codes that are the column's own elements; None for float32.

    Vectors of int8 are divided by their length for COSINE, and then are no int8 any more (but see
    ``_is_scaled``).
    """
    element = source.vectors.dtype
    if element == np.float32:
        return None
    if element == np.uint16:
        return scalar_type("bf16")
    if element == np.int8 and source.metric is not MetricType.COSINE:
        return _INT8
    return scalar_type("fp16")
