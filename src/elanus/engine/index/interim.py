"""An inverted file that answers while no built index is there: for growing and unindexed segments.

It holds centroids and, for each list, the offsets of its rows; vectors stay where they are, in the
segment, so that nothing is resident twice and a list is scanned with exact scores. An
InterimIndex never changes: extending or retraining gives a new one that the owner puts in its
place, and searches go on with the one they have. So there is no lock, and no search ever waits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.exact import VectorBlock, exact_search, score_rows
from elanus.engine.index.dense.neighbours import (
    Bounds,
    Floats,
    Ints,
    Neighbours,
    best,
    inverse_norms,
    merge_neighbours,
    prepare_queries,
    scatter,
)
from elanus.engine.index.rows import RowSet
from elanus.engine.strategy import SEEN_PER_HIT, exact_cost, probes_wanted
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

MIN_ROWS = 8_192
"""Fewer rows are scanned: that takes less than 0.2 ms."""
TAIL_ROWS = 8_192
"""Rows behind the covered prefix that are scanned before they are worth being added."""
FIRST_NLIST = 128
GROWTH = 4
"""Retrained with twice the lists when this many times the rows are there."""
TRAINING_ROWS_PER_LIST = 64
PROBED_PART = 1 / 8
"""Part of the first lists that is probed; with more lists a smaller part will do."""
ASSIGN_ROWS = 4_096
ITERATIONS = 8
LISTS_COST = 60_000.0
"""Of going through lists at all, ns."""
LISTED_ROW_COST = 50.0
"""Scoring a row of a list for 100 dimensions, ns."""


def lists_for(row_count: int) -> int:
    """128 lists at 8,192 rows, doubled whenever the rows are four times as many."""
    nlist, limit = FIRST_NLIST, MIN_ROWS * GROWTH
    while row_count >= limit:
        nlist, limit = nlist * 2, limit * GROWTH
    return nlist


@dataclass(frozen=True, slots=True)
class _Lists:
    """The covered rows of one block: offsets within the block in the order of their lists.

    order: int32 (rows,). starts: int64 (nlist + 1,). lists: int16 (rows,), each row's list.
    """

    first_row: int
    order: npt.NDArray[np.int32]
    starts: Ints
    lists: npt.NDArray[np.int16]


class InterimIndex:
    """Covers the rows ``0 … covered-1`` of a segment."""

    def __init__(
        self, metric: MetricType, centroids: Floats, parts: tuple[_Lists, ...] = ()
    ) -> None:
        self.metric = metric
        self._centroids = centroids
        self._parts = parts
        self.nlist = len(centroids)
        self.covered = parts[-1].first_row + len(parts[-1].lists) if parts else 0
        sizes = [np.diff(part.starts) for part in parts]
        self._sizes = np.sum(sizes, axis=0) if sizes else np.zeros(self.nlist, np.int64)

    @property
    def size_bytes(self) -> int:
        return self._centroids.nbytes + sum(
            part.order.nbytes + part.starts.nbytes + part.lists.nbytes for part in self._parts
        )

    @property
    def default_nprobe(self) -> int:
        return max(8, round(PROBED_PART * math.sqrt(self.nlist * FIRST_NLIST)))

    @staticmethod
    def train(blocks: Sequence[VectorBlock], metric: MetricType, row_count: int) -> "InterimIndex":
        """Centroids from rows spread over the first ``row_count``; covers nothing yet."""
        nlist = lists_for(row_count)
        step = max(1, row_count // (nlist * TRAINING_ROWS_PER_LIST))
        sample = [block.vectors[: row_count - block.first_row : step] for block in blocks]
        training = prepare_queries(np.concatenate(sample), metric)
        return InterimIndex(metric, _cluster(training, nlist, metric))

    def extended(self, blocks: Sequence[VectorBlock], row_count: int) -> "InterimIndex":
        """An index that covers the first ``row_count`` rows; what is listed stays as it is."""
        parts: list[_Lists] = []
        for number, block in enumerate(blocks):
            rows = min(len(block.vectors), row_count - block.first_row)
            if rows <= 0:
                break
            part = self._parts[number] if number < len(self._parts) else None
            if part is None or len(part.lists) < rows:
                known = part.lists if part is not None else np.empty(0, np.int16)
                fresh = _nearest(block.vectors[len(known) : rows], self._centroids, self.metric)
                part = self._listed(block.first_row, np.concatenate([known, fresh]))
            parts.append(part)
        return InterimIndex(self.metric, self._centroids, tuple(parts))

    def _listed(self, first_row: int, lists: npt.NDArray[np.int16]) -> _Lists:
        order = np.argsort(lists, kind="stable").astype(np.int32)
        sizes = np.bincount(lists, minlength=self.nlist)
        return _Lists(first_row, order, np.concatenate([[0], np.cumsum(sizes)]), lists)

    def search(
        self, blocks: Sequence[VectorBlock], query: VectorQuery, rows: RowSet | None, limit: int
    ) -> Neighbours:
        """The best among the covered rows below ``limit`` that are in ``rows`` (None: all).

        ``blocks``: the segment's, as when the index was extended, or longer.
        """
        limit = min(limit, self.covered)
        bounds = Bounds.of(query)
        wanted = limit if rows is None else min(rows.count, limit)
        if wanted == 0:
            return Neighbours.none(len(query.vectors))
        queries = prepare_queries(query.vectors, self.metric)
        ranked = self._rank(queries)
        sizes = self._survivors(rows, wanted)
        least = SEEN_PER_HIT * query.top_k
        probes = probes_wanted(sizes[ranked], self.default_nprobe, wanted, limit, least)
        if bounds is not None and np.isfinite(bounds.high):
            probes[:] = self.nlist
        visited = np.cumsum(sizes[ranked], axis=1)[np.arange(len(queries)), probes - 1]
        dim = queries.shape[1]
        limit_cost = exact_cost(limit, wanted, dim, len(queries))
        by_lists = LISTS_COST + visited * LISTED_ROW_COST * dim / 100 < limit_cost
        answers = []
        for number in np.flatnonzero(by_lists):
            lists = ranked[number, : probes[number]]
            found = self._visit(
                blocks, queries[number : number + 1], lists, query.top_k, rows, limit, bounds
            )
            answers.append((np.array([number]), found))
        scanned = np.flatnonzero(~by_lists)
        if len(scanned):
            covered = trimmed(blocks, 0, limit)
            found = exact_search(
                covered, query.vectors[scanned], self.metric, query.top_k, rows, bounds
            )
            answers.append((scanned, found))
        return scatter(answers, len(queries))

    def _rank(self, queries: Floats) -> Ints:
        """All lists, nearest first, int64 (nq, nlist)."""
        products = queries @ self._centroids.T
        if self.metric is MetricType.L2:
            products -= 0.5 * np.einsum("ij,ij->i", self._centroids, self._centroids)
        return np.argsort(-products, axis=1)

    def _survivors(self, rows: RowSet | None, wanted: int) -> Ints:
        """Rows of the set in each list, int64 (nlist,). Estimated when nearly all are wanted."""
        if rows is None or wanted > 0.95 * self.covered:
            return self._sizes
        total = np.zeros(self.nlist, np.int64)
        for part in self._parts:
            mask = rows.mask[part.first_row : part.first_row + len(part.lists)]
            total += np.bincount(part.lists[: len(mask)][mask], minlength=self.nlist)
        return total

    def _visit(
        self,
        blocks: Sequence[VectorBlock],
        query: Floats,
        lists: Ints,
        top_k: int,
        rows: RowSet | None,
        limit: int,
        bounds: Bounds | None,
    ) -> Neighbours:
        found = []
        for part, block in zip(self._parts, blocks, strict=False):
            if part.first_row >= limit:
                break
            spans = [part.order[part.starts[number] : part.starts[number + 1]] for number in lists]
            ids = np.concatenate(spans).astype(np.int64)
            if rows is not None:
                mask = rows.mask[part.first_row : part.first_row + len(part.lists)]
                if len(mask) < len(part.lists):
                    ids = ids[ids < len(mask)]
                ids = ids[mask[ids]]
            elif limit - part.first_row < len(part.lists):
                ids = ids[ids < limit - part.first_row]
            similarities = score_rows(query, block, self.metric, ids)
            if bounds is not None:
                similarities[~bounds.holds(similarities)] = -np.inf
            chosen = best(similarities, top_k)
            found.append(
                Neighbours(
                    np.array([len(chosen)]), similarities[chosen], ids[chosen] + part.first_row
                )
            )
        return merge_neighbours(found, top_k)


def _nearest(vectors: Floats, centroids: Floats, metric: MetricType) -> npt.NDArray[np.int16]:
    """The list of each vector, int16 (rows,). Its length plays no part in which one is nearest."""
    result = np.empty(len(vectors), np.int16)
    halves = 0.5 * np.einsum("ij,ij->i", centroids, centroids)
    for start in range(0, len(vectors), ASSIGN_ROWS):
        products = vectors[start : start + ASSIGN_ROWS] @ centroids.T
        if metric is MetricType.L2:
            products -= halves
        result[start : start + len(products)] = products.argmax(axis=1)
    return result


def _cluster(training: Floats, nlist: int, metric: MetricType) -> Floats:
    """k-means: float32 (nlist, dim). faiss's is several times slower on one core, for its BLAS."""
    step = max(1, len(training) // nlist)
    centroids = np.ascontiguousarray(training[::step][:nlist])
    for _ in range(ITERATIONS):
        lists = _nearest(training, centroids, metric)
        order = np.argsort(lists, kind="stable")
        present, starts = np.unique(lists[order], return_index=True)
        sizes = np.diff(np.append(starts, len(order)))
        means = np.add.reduceat(training[order], starts, axis=0) / sizes[:, None]
        # Lists that nobody is nearest to take rows of the largest ones.
        largest = np.argsort(-sizes, kind="stable")
        centroids = np.empty((nlist, training.shape[1]), np.float32)
        centroids[present] = means
        absent = np.setdiff1d(np.arange(nlist), present)
        donors = starts[largest[np.arange(len(absent)) % len(largest)]]
        centroids[absent] = training[order[donors]]
        if metric is not MetricType.L2:
            centroids *= inverse_norms(centroids)[:, None]
    return centroids


def trimmed(blocks: Sequence[VectorBlock], first_row: int, end: int) -> list[VectorBlock]:
    """The blocks' rows ``first_row … end-1``, without a copy."""
    result = []
    for block in blocks:
        start = max(first_row - block.first_row, 0)
        stop = min(end - block.first_row, len(block.vectors))
        if start < stop:
            norms = None if block.inverse_norms is None else block.inverse_norms[start:stop]
            result.append(VectorBlock(block.first_row + start, block.vectors[start:stop], norms))
    return result


def search_with_interim(
    blocks: Sequence[VectorBlock],
    interim: InterimIndex | None,
    query: VectorQuery,
    row_count: int,
    rows: RowSet | None,
) -> Neighbours:
    """The best of ``rows`` (None: all) among the first ``row_count`` rows: the covered prefix by
    its lists, the rest by an exact scan."""
    bounds = Bounds.of(query)
    covered = 0 if interim is None else min(interim.covered, row_count)
    if interim is None or interim.metric is not query.metric or covered < MIN_ROWS // 2:
        whole = trimmed(blocks, 0, row_count)
        return exact_search(whole, query.vectors, query.metric, query.top_k, rows, bounds)
    parts = [interim.search(blocks, query, rows, covered)]
    tail = trimmed(blocks, covered, row_count)
    if tail:
        parts.append(exact_search(tail, query.vectors, query.metric, query.top_k, rows, bounds))
    return merge_neighbours(parts, query.top_k)
