"""Fusion of several lists whose rows are in groups.

Rows are fused first, then each group keeps the best of its rows and gets a score of its own. Groups
of equal score are ordered by size, the larger first, then by the key of their best row.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.groups import standings
from elanus.engine.rank import (
    FloatArray,
    Fused,
    IntArray,
    ReciprocalRank,
    Weighted,
    fuse,
    is_descending,
    one_array,
    take_keys,
)
from elanus.engine.segment.hits import key_ranks
from elanus.model.reads import Hits
from elanus.model.types import MetricType


class GroupScorer(StrEnum):
    """The score of a group: of its best row, or the sum or mean of its rows."""

    MAX = "max"
    SUM = "sum"
    AVG = "avg"


def fuse_groups(
    lists: Sequence[Hits],
    metrics: Sequence[MetricType],
    ranker: ReciprocalRank | Weighted,
    *,
    size: int,
    scorer: GroupScorer,
    offset: int,
    limit: int,
) -> Fused:
    """The best groups of every query, ranks ``offset`` to ``offset + limit``, at most ``size`` rows
    of each: group by group, within a group the best rows first. The lists are as for ``fuse``."""
    total = max(sum(len(hits.scores) for hits in lists), 1)
    rows = fuse(lists, metrics, ranker, offset=0, limit=total)
    if not len(rows.scores):
        return rows
    groups = _groups_of(rows.keys, lists)
    ranks, places = standings(rows.counts, groups)
    queries = np.repeat(np.arange(len(rows.counts)), rows.counts)
    kept = np.flatnonzero(places < size)
    slots = queries * (int(ranks.max()) + 1) + ranks
    used, slot_of_row = np.unique(slots[kept], return_inverse=True)
    first = kept[np.unique(slot_of_row, return_index=True)[1]]
    sizes = np.bincount(slot_of_row)
    scores = _scores(rows.scores[kept], slot_of_row, rows.scores[first], sizes, scorer)
    if is_descending(metrics, ranker):
        scores = -scores
    order = np.lexsort((key_ranks(rows.keys)[first], -sizes, scores, queries[first]))
    in_query = np.bincount(queries[first], minlength=len(rows.counts))
    starts = np.cumsum(in_query) - in_query
    rank_of_slot = np.empty(len(used), np.int64)
    rank_of_slot[order] = np.arange(len(used)) - starts[queries[first][order]]
    rank = rank_of_slot[slot_of_row]
    chosen = np.lexsort((places[kept], rank, queries[kept]))
    chosen = chosen[(rank[chosen] >= offset) & (rank[chosen] < offset + limit)]
    positions = kept[chosen]
    return Fused(
        counts=np.bincount(queries[positions], minlength=len(rows.counts)).astype(np.int64),
        scores=rows.scores[positions],
        keys=take_keys(rows.keys, positions),
        groups=groups.take(pa.array(positions)),
    )


def _groups_of(keys: Any, lists: Sequence[Hits]) -> Any:
    """The group of each key, by the lists that have it."""
    full = [hits for hits in lists if len(hits.scores)]
    known = pa.concat_arrays([_arrow(hits.keys) for hits in full])
    groups = pa.concat_arrays([hits.groups for hits in full])
    return groups.take(pc.index_in(_arrow(keys), value_set=known))


def _arrow(keys: Any) -> Any:
    return pa.array(keys) if isinstance(keys, np.ndarray) else one_array(keys)


def _scores(
    rows: FloatArray, slot_of_row: IntArray, best: FloatArray, sizes: IntArray, scorer: GroupScorer
) -> FloatArray:
    """float32 (groups,). ``rows``: scores of the rows that the groups keep."""
    if scorer is GroupScorer.MAX:
        return best
    sums = np.zeros(len(sizes), np.float32)
    np.add.at(sums, slot_of_row, rows)
    return sums if scorer is GroupScorer.SUM else (sums / sizes).astype(np.float32)
