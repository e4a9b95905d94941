"""How one segment is searched: exactly or by an index, and how deep, decided by cost.

An index that is searched as if there were no filter finds the filter's survivors only as far as
they are among the rows that it visits. So the walk goes deeper as survivors get rarer, and what
it found says how far it had to go: if the k-th survivor came late (the filter keeps rows that are
far from this very query) it goes deeper again, until it is deep enough or an exact scan of the
survivors is cheaper. Recall then holds at any selectivity, correlated with the query or not.

Costs are nanoseconds on one core, measured on 300,000 × 100 and scaled by dimension; only their
ratios matter.
"""

import math

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.exact import MATRIX_QUERIES, exact_search
from elanus.engine.index.dense.load import LoadedIndex
from elanus.engine.index.dense.neighbours import (
    Bounds,
    Floats,
    Ints,
    Neighbours,
    prepare_queries,
    scatter,
)
from elanus.engine.index.dense.search import (
    DEFAULT_NPROBE,
    MIN_EF,
    compact,
    rank_lists,
    search_graph,
    search_lists,
)
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery

DEPTH_POWER = 0.7
"""ef that finds the survivor at rank r as surely as ef finds rank k: ef · (r / k) ** 0.7."""
DEPTH_TOLERANCE = 1.5
"""A walk this much shallower than wanted is accepted: ranks scatter around their mean."""
DEPTH_GROWTH = 1.5
"""A walk is repeated at least this much deeper, which bounds the number of walks."""
SEEN_PER_HIT = 8
"""Rows in the probed lists of an inverted file for each hit wanted, at least."""
RANGE_EF = 512
"""Milvus's default ef of a range search."""


def exact_cost(row_count: int, wanted: int, dim: int, queries: int) -> float:
    """Of an exact search for one query (of ``queries`` that are searched together), ns."""
    scale = max(dim, 16) / 100
    if queries < MATRIX_QUERIES:
        return scale * min(row_count * 15.0, wanted * 70.0)
    whole = row_count * (55.0 + 3.0 * queries)
    gathered = wanted * (135.0 + 4.0 * queries)
    return scale * min(whole, gathered) / queries


def graph_cost(ef: float, links: int, dim: int) -> float:
    """Of a walk for one query, ns."""
    return ef * 2400.0 * (links / 16) * (0.4 + 0.6 * dim / 100)


def search_index(loaded: LoadedIndex, query: VectorQuery, rows: RowSet | None) -> Neighbours:
    """The best of ``rows`` (None: all) for each query vector, by a loaded index."""
    queries = prepare_queries(query.vectors, loaded.metric)
    if loaded.row_count == 0 or (rows is not None and rows.count == 0):
        return Neighbours.none(len(queries))
    if rows is not None and rows.count == loaded.row_count:
        rows = None
    if loaded.index_type == "HNSW":
        return _Walk(loaded, query, queries, rows).run()
    return _search_ivf(loaded, query, queries, rows)


class _Walk:
    """A search of an HNSW graph."""

    def __init__(
        self, loaded: LoadedIndex, query: VectorQuery, queries: Floats, rows: RowSet | None
    ) -> None:
        self._loaded = loaded
        self._queries = queries
        self._rows = rows
        self._bounds = Bounds.of(query)
        self._wanted = loaded.row_count if rows is None else rows.count
        self._top_k = min(query.top_k, self._wanted)
        default = max(query.top_k, MIN_EF if self._bounds is None else RANGE_EF)
        self._ef = max(int(query.params.get("ef", default)), self._top_k)
        self._exact_cost = exact_cost(loaded.row_count, self._wanted, loaded.dim, len(queries))

    def run(self) -> Neighbours:
        density = self._wanted / self._loaded.row_count
        pending = np.arange(len(self._queries))
        parts: list[tuple[Ints, Neighbours]] = []
        depth = self._depth_for(self._top_k / density)
        while len(pending) and self._is_cheaper(depth):
            found, done, next_depth = self._walk(pending, depth)
            parts.append((pending[done], found))
            pending, next_depth = pending[~done], next_depth[~done]
            if not len(pending):
                break
            # Whoever is cheaper off with an exact scan does not hold back the others.
            walks = np.array([self._is_cheaper(d) for d in next_depth])
            if not walks.all():
                parts.append((pending[~walks], self._exact(pending[~walks])))
                pending, next_depth = pending[walks], next_depth[walks]
            if len(pending):
                depth = max(int(next_depth.max()), math.ceil(depth * DEPTH_GROWTH))
        if len(pending):
            parts.append((pending, self._exact(pending)))
        return scatter(parts, len(self._queries))

    def _depth_for(self, rank: float) -> int:
        """ef at which the row of this rank (1 = nearest of all) is found surely enough."""
        deep = self._ef * math.pow(max(1.0, rank / self._top_k), DEPTH_POWER)
        return math.ceil(max(deep, rank if rank <= self._top_k else 1.2 * rank))

    def _is_cheaper(self, depth: float) -> bool:
        if depth >= self._loaded.row_count:
            return False
        return graph_cost(depth, self._loaded.links_per_row, self._loaded.dim) < self._exact_cost

    def _walk(self, which: Ints, depth: int) -> tuple[Neighbours, npt.NDArray[np.bool_], Ints]:
        """Returns (what the finished queries of ``which`` found, finished or not: bool (n,), the
        depth that each would need)."""
        selective = self._rows is not None or self._bounds is not None
        size = depth if selective else self._top_k
        queries = self._queries if len(which) == len(self._queries) else self._queries[which]
        similarities, labels = search_graph(self._loaded, queries, size, depth)
        kept = labels >= 0
        if not selective and kept.all():
            counts = np.full(len(which), size, np.int64)
            every = np.ones(len(which), np.bool_)
            return Neighbours(counts, similarities.ravel(), labels.ravel()), every, counts
        if self._rows is not None:
            kept &= self._rows.mask[labels]
        if self._bounds is not None:
            kept &= self._bounds.holds(similarities)
        running = np.cumsum(kept, axis=1, dtype=np.int32)
        found = running[:, -1]
        enough = found >= self._top_k
        # Where k are found: the rank of the k-th. Else: where it would be at this density.
        ranks = np.where(
            enough,
            np.argmax(running >= self._top_k, axis=1) + 1,
            size * self._top_k / np.maximum(found, 0.5),
        )
        needed = np.array([self._depth_for(rank) for rank in ranks])
        done = enough & (needed <= depth * DEPTH_TOLERANCE)
        if self._bounds is not None:
            # The walk went past the radius: there is nothing more to find.
            done |= (labels[:, -1] >= 0) & (similarities[:, -1] <= self._bounds.low)
        answer = compact(similarities[done], labels[done], kept[done], self._top_k)
        return answer, done, needed

    def _exact(self, which: Ints) -> Neighbours:
        loaded = self._loaded
        return exact_search(
            loaded.blocks,
            self._queries[which],
            loaded.metric,
            self._top_k,
            self._rows,
            self._bounds,
        )


def _search_ivf(
    loaded: LoadedIndex, query: VectorQuery, queries: Floats, rows: RowSet | None
) -> Neighbours:
    bounds = Bounds.of(query)
    wanted = loaded.row_count if rows is None else rows.count
    top_k = min(query.top_k, wanted)
    nlist = int(loaded.index.nlist)
    nprobe = min(int(query.params.get("nprobe", DEFAULT_NPROBE)), nlist)
    ranked = rank_lists(loaded, queries, nlist)
    sizes = np.bincount(
        loaded.list_of_row if rows is None else loaded.list_of_row[rows.mask], minlength=nlist
    )
    # Without a filter nprobe means what the user was told it means.
    least = top_k if rows is None and bounds is None else SEEN_PER_HIT * top_k
    probes = probes_wanted(sizes[ranked[1]], nprobe, wanted, loaded.row_count, least)
    # The inner bound of a range search may hide any number of nearer rows: only all lists are sure.
    hidden = bounds is not None and math.isfinite(bounds.high)
    if hidden:
        probes[:] = nlist
    width = int(probes.max())
    lists = np.where(np.arange(width) < probes[:, None], ranked[1][:, :width], -1)
    depth = wanted if hidden else top_k
    similarities, labels = search_lists(loaded, queries, depth, (ranked[0][:, :width], lists), rows)
    kept = labels >= 0
    if bounds is not None:
        kept &= bounds.holds(similarities)
    return compact(similarities, labels, kept, top_k)


def probes_wanted(sizes: Ints, nprobe: int, wanted: int, row_count: int, least: int) -> Ints:
    """How many lists to look into, int64 (nq,).

    sizes: (nq, nlist) survivors in each list, nearest list first. At least ``nprobe`` lists, and
    as many as it takes to see √selectivity of the rows that nprobe average lists hold: fewer rows
    survive, and they lie further out. More where the filter leaves less near this query than
    elsewhere: the nearest survivors are then a shell that many lists share. Always enough lists
    to see ``least`` survivors.
    """
    nlist = sizes.shape[1]
    selectivity = wanted / row_count
    target = nprobe * row_count / nlist * math.sqrt(selectivity) if selectivity < 1 else 0.0
    target = min(max(target, least), wanted)
    running = np.cumsum(sizes, axis=1)
    enough = np.argmax(running >= target, axis=1) + 1
    thinness = np.maximum(enough * (wanted / nlist) / target, 1.0)
    reached = running >= np.minimum(target * thinness, wanted)[:, None]
    enough = np.where(reached[:, -1], np.argmax(reached, axis=1) + 1, nlist)
    probes: Ints = np.maximum(enough, nprobe)
    return probes
