"""From row offsets in a segment to the hits and rows that leave it, and columns it never had."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.index.dense.neighbours import Ints, Neighbours
from elanus.model.reads import Hits, Rows
from elanus.model.schema import CollectionSchema, arrow_type, default_scalar
from elanus.model.types import MetricType

FEW_HITS = 32
"""Sooner compared as Python's numbers than by NumPy."""
KEPT_SOURCES = 1_024
"""Segments whose id is kept as an array for a few hits."""


def native_keys(keys: Any) -> Any:
    """Primary keys as Hits and Rows hold them: an int64 NumPy array or an Arrow string array."""
    if isinstance(keys, np.ndarray) or not pa.types.is_integer(keys.type):
        return keys
    return np.asarray(keys)


def hits_of(
    found: Neighbours,
    metric: MetricType,
    keys: Any,
    timestamps: npt.NDArray[np.uint64],
    segment_id: int,
    elements: Ints | None = None,
) -> Hits:
    """keys, timestamps: those of the found rows; elements: as Hits has them. Equal scores come out
    by ascending key."""
    scores = found.similarities if metric.larger_is_better else -found.similarities
    offsets, native = found.offsets, native_keys(keys)
    if may_tie(scores):
        queries = np.repeat(np.arange(len(found.counts)), found.counts)
        ranks = order_key(key_ranks(keys), elements)
        order = np.lexsort((ranks, -found.similarities, queries))
        scores, offsets, timestamps = scores[order], offsets[order], timestamps[order]
        native = native[order] if isinstance(native, np.ndarray) else keys.take(pa.array(order))
        elements = None if elements is None else elements[order]
    count = len(offsets)
    sources = sources_of(segment_id, count)
    return Hits(found.counts, scores, native, timestamps, sources, offsets, elements=elements)


def sources_of(segment_id: int, count: int) -> Ints:
    """Of ``count`` hits in one segment, not to be changed."""
    return _few_sources(segment_id)[:count] if count <= FEW_HITS else _sources(segment_id, count)


@lru_cache(maxsize=KEPT_SOURCES)
def _few_sources(segment_id: int) -> Ints:
    sources = _sources(segment_id, FEW_HITS)
    sources.flags.writeable = False
    return sources


def _sources(segment_id: int, count: int) -> Ints:
    return np.full(count, segment_id, np.int64)


def may_tie(scores: npt.NDArray[np.float32]) -> bool:
    """Whether some query may have hits that score the same."""
    if len(scores) <= FEW_HITS:
        return len(set(scores.tolist())) < len(scores)
    return bool(np.count_nonzero(scores[1:] == scores[:-1]))


def key_ranks(keys: Any) -> Ints:
    """Integers in the order of the keys (equal for equal integer keys)."""
    if isinstance(keys, np.ndarray) or pa.types.is_integer(keys.type):
        return np.asarray(keys)
    codes = keys.dictionary_encode()
    order = np.asarray(pc.sort_indices(codes.dictionary)).astype(np.int64)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    result: Ints = ranks[np.asarray(codes.indices)]
    return result


def order_key(ranks: Ints, elements: Ints | None) -> Ints:
    """Integers in the order of the keys, and of elements within a key, equal for equal ones.
    ranks: as ``key_ranks`` gives them; elements: as Hits has them."""
    if elements is None:
        return ranks
    order = np.lexsort((elements, ranks))
    fresh = np.zeros(len(order), np.int64)
    fresh[1:] = (np.diff(ranks[order]) != 0) | (np.diff(elements[order]) != 0)
    result = np.empty(len(order), np.int64)
    result[order] = np.cumsum(fresh)
    return result


def rows_of(offsets: Ints, keys: Any, timestamps: npt.NDArray[np.uint64], segment_id: int) -> Rows:
    sources = _sources(segment_id, len(offsets))
    return Rows(native_keys(keys), timestamps, sources, offsets)


def key_order(keys: pa.Array, timestamps: npt.NDArray[np.uint64]) -> Ints:
    """The permutation that sorts rows by (primary key, timestamp)."""
    if pa.types.is_integer(keys.type):
        return np.lexsort((timestamps, np.asarray(keys)))
    table = pa.table({"key": keys, "timestamp": timestamps})
    sort_keys = [("key", "ascending"), ("timestamp", "ascending")]
    result: Ints = np.asarray(pc.sort_indices(table, sort_keys=sort_keys)).astype(np.int64)
    return result


def missing_column(schema: CollectionSchema, name: str, row_count: int) -> pa.Array:
    """What rows written before the field was added have in it: its default, else null (an empty
    object in the dynamic field)."""
    field = schema.by_name[name]
    kind = arrow_type(field)
    value = default_scalar(field)
    if value is None and field.is_dynamic:
        value = pa.scalar(b"{}", kind)
    return pa.nulls(row_count, kind) if value is None else pa.repeat(value, row_count)
