"""Which indexes binary and sparse vector fields can have, with Milvus's texts.

Those of dense fields stand in :mod:`elanus.access.ddl.index_parameters`.
"""

import math
from collections.abc import Mapping

from elanus.errors import InvalidParameter
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, MetricType

SPARSE_ALGORITHMS = ("TAAT_NAIVE", "DAAT_WAND", "DAAT_MAXSCORE")
BINARY_TYPES = frozenset({"BIN_FLAT", "BIN_IVF_FLAT"})
SPARSE_TYPES = frozenset({"SPARSE_INVERTED_INDEX", "SPARSE_WAND"})
AUTO_TYPES: dict[DataType, tuple[str, MetricType, dict[str, str]]] = {
    DataType.BINARY_VECTOR: ("BIN_IVF_FLAT", MetricType.HAMMING, {"nlist": "1024"}),
    DataType.SPARSE_FLOAT_VECTOR: (
        "SPARSE_INVERTED_INDEX",
        MetricType.IP,
        {"inverted_index_algo": "DAAT_MAXSCORE", "drop_ratio_build": "0.0"},
    ),
}
"""What AUTOINDEX stands for: (type, default metric, parameters)."""
INT8_TYPES = frozenset({"HNSW", "HNSW_SQ", "HNSW_PQ", "HNSW_PRQ"})
"""Dense indexes that an Int8Vector field can have."""
_METRICS = {
    "BIN_FLAT": (
        MetricType.HAMMING,
        MetricType.JACCARD,
        MetricType.SUBSTRUCTURE,
        MetricType.SUPERSTRUCTURE,
    ),
    "BIN_IVF_FLAT": (MetricType.HAMMING, MetricType.JACCARD),
}
_STRUCTURES = ("SUBSTRUCTURE", "SUPERSTRUCTURE")
_RATIO = "drop_ratio_build"
_PASSED_ON = ("bm25_k1", "bm25_b", "bm25_avgdl")


def invalid(text: str) -> InvalidParameter:
    """The error of index parameters that can't be."""
    return InvalidParameter(text, expected="valid index params", actual="invalid index params")


def refused_type(data_type: DataType, index_type: str) -> InvalidParameter:
    """The error of an index type of another kind of vectors."""
    return invalid(f"data type {data_type.milvus_name} can't build with this index {index_type}")


def binary_metric(index_type: str, name: str) -> MetricType:
    """The metric of an index of a binary field. Raises InvalidParameter."""
    allowed = _METRICS[index_type]
    if name in allowed:
        return MetricType(name)
    if name in _STRUCTURES:
        shown = " ".join(allowed)
        raise invalid(f"metric type {name} not found or not supported, supported: [{shown}]")
    raise invalid(f"binary vector index does not support metric type: {name}")


def sparse_metric(name: str, field: FieldSchema) -> MetricType:
    """The metric of an index of a sparse field. Raises InvalidParameter."""
    if field.is_function_output:
        if name != MetricType.BM25:
            raise invalid(
                f"index metric type of BM25 function output field must be BM25, got {name}"
            )
        return MetricType.BM25
    if name == "BM25":
        raise invalid("only BM25 Function output field support BM25 metric type")
    if name != MetricType.IP:
        raise invalid("only IP&BM25 is the supported metric type for sparse index")
    return MetricType.IP


def sparse_params(index_type: str, given: Mapping[str, str]) -> dict[str, str]:
    """The complete parameters of a sparse index. Raises InvalidParameter."""
    default = "DAAT_WAND" if index_type == "SPARSE_WAND" else "DAAT_MAXSCORE"
    algorithm = given.get("inverted_index_algo", default)
    if algorithm not in SPARSE_ALGORITHMS:
        raise invalid(
            f"sparse inverted index algo {algorithm} not found or not supported, "
            f"supported: [{' '.join(SPARSE_ALGORITHMS)}]"
        )
    text = given.get(_RATIO, "0.0")
    try:
        ratio = float(text)
    except ValueError:
        raise InvalidParameter(
            f"wrong data type in json, invalid float value, key: '{_RATIO}', value: '{text}'"
        ) from None
    if not 0 <= ratio < 1 or math.isnan(ratio):
        raise InvalidParameter(
            f"Out of range in json: param '{_RATIO}' ({ratio}) should be in range "
            "[0.000000, 1.000000)"
        )
    passed = {name: given[name] for name in _PASSED_ON if name in given}
    return {"inverted_index_algo": algorithm, _RATIO: str(ratio), **passed}


def bm25_params(given: Mapping[str, str]) -> dict[str, str]:
    """k1 and b of an index with the metric BM25. Raises InvalidParameter."""
    return {
        name: str(_number(name, given.get(name, default), most))
        for name, default, most in (("bm25_k1", "1.2", 3.0), ("bm25_b", "0.75", 1.0))
    }


def _number(name: str, text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidParameter(
            f"wrong data type in json, invalid float value, key: '{name}', value: '{text}'"
        ) from None
    if not 0 <= value <= most:
        raise InvalidParameter(
            f"Out of range in json: param '{name}' ({value}) should be in range "
            f"[0.000000, {most:.6f}]"
        )
    return value
