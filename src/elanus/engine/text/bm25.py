"""BM25's side of the text: documents and queries as counts of terms, in sparse vectors.

A term's dimension is a hash of it, as in Milvus.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.engine.text.analyzer import Analyzer, dimension_of
from elanus.engine.text.fields import MULTI_ANALYZER_PARAMS, analyzer_for, multi_analyzer_of
from elanus.model.schema import FieldSchema
from elanus.model.vectors import SparseRows, sparse_column

_LARGEST_COUNT = 65_535


def document_vectors(rows: pa.RecordBatch, text: FieldSchema) -> Any:
    """The sparse column (rows,) of the field ``text`` of complete rows. For a compute thread."""
    column = rows.column(text.name)
    several = text.type_params.get(MULTI_ANALYZER_PARAMS)
    if not several:
        return term_counts(column.to_pylist(), [analyzer_for(text)] * len(column))
    chooser = multi_analyzer_of(several)
    names = rows.column(chooser.by_field).to_pylist()
    return term_counts(column.to_pylist(), [chooser.named(name or "") for name in names])


def term_counts(texts: Sequence[str | None], analyzers: Sequence[Analyzer]) -> Any:
    """How often each term occurs in each text, as a sparse column; None has no terms."""
    dimensions = _Dimensions()
    tokens = [
        [dimensions[token] for token in analyzer.tokens(text)] if text else []
        for text, analyzer in zip(texts, analyzers, strict=True)
    ]
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    flat = np.fromiter(chain.from_iterable(tokens), np.uint64, int(lengths.sum()))
    keys = (np.repeat(np.arange(len(tokens), dtype=np.uint64), lengths) << np.uint64(32)) | flat
    entries, counts = np.unique(keys, return_counts=True)
    offsets = np.searchsorted(entries >> np.uint64(32), np.arange(len(tokens) + 1))
    values = np.minimum(counts, _LARGEST_COUNT).astype(np.float32)
    return sparse_column(offsets, entries.astype(np.uint32), values)


class _Dimensions(dict[str, int]):
    """The dimension of each token of one call."""

    def __missing__(self, token: str) -> int:
        self[token] = dimension = dimension_of(token)
        return dimension


def query_terms(queries: Any) -> npt.NDArray[np.uint32]:
    """uint32 (terms,): every dimension of the queries, ascending."""
    return np.unique(SparseRows.of(queries).indices)


def weighted(queries: Any, terms: npt.NDArray[np.uint32], statistics: TermStatistics) -> Any:
    """The queries with count times idf in place of the counts."""
    rows = SparseRows.of(queries)
    idf = statistics.idf[np.searchsorted(terms, rows.indices)]
    return sparse_column(rows.offsets, rows.indices, (rows.values * idf).astype(np.float32))
