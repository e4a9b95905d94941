"""Answers while no built index is there: for growing and unindexed segments.

A code of each vector is there instead (see :mod:`elanus.engine.index.codes`). The nearest by code
are scored exactly; the vectors stay where they are, in the segment. How far codes and vectors
disagree shows in these very rows: if the codes are too coarse for a query (rows too much alike, or
unlike those that the codes were trained on) its search goes deeper, and in the end to an exact
scan. So recall doesn't depend on the data.

An InterimIndex never changes, but for a guess: extending or retraining gives a new one that the
owner puts in its place, and searches go on with the one they have. So there is no lock, and no
search ever waits.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from elanus.engine.index.base import Interim
from elanus.engine.index.codes import TRAINING_ROWS, Codes
from elanus.engine.index.dense.chosen import score_labels
from elanus.engine.index.dense.exact import VectorBlock, exact_search_prepared
from elanus.engine.index.dense.neighbours import (
    LOWEST,
    Bounds,
    Floats,
    Ints,
    Neighbours,
    best_of_each,
    least_similarity,
    part_of,
    prepare_queries,
    scatter,
)
from elanus.engine.index.rows import RowSet
from elanus.engine.strategy import RANGE_EF, exact_cost
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

MIN_ROWS = 2_048
"""Fewer rows are scanned as fast."""
MIN_DIM = 24
"""With fewer dimensions an exact scan is as fast."""
TAIL_ROWS = 256
TAIL_PART = 1 / 128
"""Rows behind the covered prefix that are scanned before they are worth being added: at least
``TAIL_ROWS``, and this part of what is covered, because adding copies all codes."""
RETRAIN_GROWTH = 4
"""Trained anew when this many times the rows are there."""
PIECE_ROWS = 16_384
DEPTH = 256
DEPTH_PER_HIT = 16
"""Rows that are scored exactly: so many, or so many for each hit wanted."""
LEAST_DEPTH, MOST_DEPTH = 128, 2_048
"""Of the first scan for one query, which searches of late decide on."""
DEPTH_STEP = 1 / 64
ENOUGH_PART = 0.85
DEPTH_GROWTH = 4
"""How much deeper the next scan goes if one was not deep enough."""
ROWS_AT_ONCE = 1 << 18
"""Of all queries that are scanned for in one call."""
SURE_DEVIATIONS = 3.25
"""The worst hit must be better than the last row that was looked at by so many deviations between
code and vector: a row behind that one belongs among the hits once in 1,700 cases at the very edge,
and ever more rarely the better it is."""
CODED_ROW_COST = 1.5
"""Of scanning a code for 100 dimensions, ns."""
SCORED_ROW_COST = 60.0
"""Of choosing a row and scoring its vector, ns."""


def is_worth_building(row_count: int, dim: int) -> bool:
    """Whether codes answer sooner than an exact scan."""
    return row_count >= MIN_ROWS and dim >= MIN_DIM


class UsualDepth:
    """Follows the depth that is enough for ``ENOUGH_PART`` of the searches: one that must go deeper
    scans all codes again. Only a guess: threads may overwrite each other's."""

    def __init__(self) -> None:
        self._depth = float(LEAST_DEPTH)

    @property
    def rows(self) -> int:
        return int(self._depth)

    def note(self, needed: int) -> None:
        """Whether a search needed more or fewer."""
        if needed > self._depth:
            self._depth = min(self._depth * (1 + DEPTH_STEP * ENOUGH_PART), MOST_DEPTH)
        else:
            self._depth = max(self._depth * (1 - DEPTH_STEP * (1 - ENOUGH_PART)), LEAST_DEPTH)


@dataclass(frozen=True, slots=True)
class Candidates:
    """For one query: rows, int64 (n,), with their exact similarities, float32 (n,). The first of
    them are those that codes chose, with these estimates, ``scores`` (depth,), best first, which
    are off by ``deviation``."""

    rows: Ints
    similarities: Floats
    scores: Floats
    deviation: float

    def reach(self, worst: float) -> float:
        """By code; what is behind isn't as good as ``worst``."""
        return worst - SURE_DEVIATIONS * self.deviation

    def depth_of(self, reach: float) -> int:
        """How many codes must be looked at to get there; more than were if these are too few."""
        return len(self.scores) - int(np.count_nonzero(self.scores <= reach)) + 1


class InterimIndex(Interim):
    """Covers the rows ``0 … covered-1`` of a segment. ``trained_rows``: there were so many."""

    # Equal rows have equal codes, of which a scan keeps any.
    orders_ties = False

    def __init__(self, codes: Codes, trained_rows: int, depth: UsualDepth) -> None:
        self.metric = codes.metric
        self.trained_rows = trained_rows
        self.covered = codes.count
        self.codes = codes
        self.usual_depth = depth

    @property
    def size_bytes(self) -> int:
        return self.codes.size_bytes

    @property
    def wanted_tail(self) -> int:
        """Rows behind the covered ones from which on extending is worth it."""
        return max(TAIL_ROWS, int(self.covered * TAIL_PART))

    def is_outgrown(self, row_count: int) -> bool:
        """Whether a segment of so many rows deserves codes that are trained anew."""
        return row_count >= RETRAIN_GROWTH * self.trained_rows

    @staticmethod
    def train(
        blocks: Sequence[VectorBlock],
        metric: MetricType,
        row_count: int,
        depth: UsualDepth | None = None,
    ) -> "InterimIndex":
        """Codes for rows like those spread over the first ``row_count``; covers nothing yet."""
        step = max(1, row_count // TRAINING_ROWS)
        ends = [max(0, row_count - block.first_row) for block in blocks]
        sample = [
            block.floats(slice(0, end, step)) for block, end in zip(blocks, ends, strict=True)
        ]
        training = prepare_queries(np.concatenate(sample), metric)
        codes = Codes.trained(training, metric)
        return InterimIndex(codes, row_count, depth or UsualDepth())

    def extended(self, blocks: Sequence[VectorBlock], row_count: int) -> "InterimIndex":
        """An index that covers the first ``row_count`` rows."""
        codes = self.codes.with_added(self._prepared(blocks, row_count))
        return InterimIndex(codes, self.trained_rows, self.usual_depth)

    def _prepared(self, blocks: Sequence[VectorBlock], row_count: int) -> Iterator[Floats]:
        for block in trimmed(blocks, self.covered, row_count):
            for start in range(0, len(block.vectors), PIECE_ROWS):
                piece = block.floats(slice(start, start + PIECE_ROWS))
                yield prepare_queries(piece, self.metric)

    def candidates(
        self, blocks: Sequence[VectorBlock], one: Floats, depth: int, end: int
    ) -> Candidates | None:
        """For one query the ``depth`` nearest of the covered rows by code, then the rows from
        ``covered`` to ``end``. None if all rows are scanned as soon.

        The few rows behind the covered ones are scored together with those that the codes choose:
        each call of a kernel, and each step over a long array, may be a wait for the interpreter.
        """
        exact_ns = exact_cost(self.covered, self.covered, one.shape[1], 1)
        if not _is_cheaper(self.covered, depth, one, exact_ns):
            return None
        coded = self.codes.codable(one)
        scores, labels = self.codes.nearest(coded, depth)
        if labels.item(-1) < 0:
            return None
        rows = labels[0]
        if end > self.covered:
            rows = np.concatenate((rows, np.arange(self.covered, end)))
        similarities = score_labels(one, blocks, rows[None], self.metric)[0]
        deviation = _deviations(scores, similarities[None, :depth]).item()
        return Candidates(rows, similarities, scores[0], deviation)

    def depths(self, top_k: int, least: float, density: float) -> Sequence[int]:
        """How many rows, of which the part ``density`` may be found, are scored exactly, at first
        and if those were not enough."""
        usual = self.usual_depth.rows
        if least == LOWEST:
            usual = max(usual, math.ceil(DEPTH_PER_HIT * top_k / density))
        return usual, usual * DEPTH_GROWTH

    def search(
        self,
        blocks: Sequence[VectorBlock],
        queries: Floats,
        query: VectorQuery,
        rows: RowSet | None,
        limit: int,
    ) -> Neighbours:
        """The best among the covered rows below ``limit`` that are in ``rows`` (None: all).

        ``blocks``: the segment's, as when the index was extended, or longer. ``queries``: the
        query's vectors, prepared.
        """
        limit = min(limit, self.covered)
        wanted = limit if rows is None else min(rows.count, limit)
        if wanted == 0:
            return Neighbours.none(len(queries))
        return _Search(self, blocks, queries, query, rows, limit, wanted).run()


class _Search:
    """One search of the covered rows below ``limit``."""

    def __init__(
        self,
        index: InterimIndex,
        blocks: Sequence[VectorBlock],
        queries: Floats,
        query: VectorQuery,
        rows: RowSet | None,
        limit: int,
        wanted: int,
    ) -> None:
        self._index = index
        self._covered = index.covered
        self._metric = index.metric
        self._blocks = blocks
        self._queries = queries
        self._coded = index.codes.codable(queries)
        self._rows = rows
        self._limit = limit
        self._bounds = Bounds.of(query)
        self._least = least_similarity(query)
        self._top_k = min(query.top_k, wanted)
        self._density = wanted / index.covered
        self._exact_cost = exact_cost(limit, wanted, queries.shape[1], len(queries))

    def run(self) -> Neighbours:
        least = DEPTH if self._bounds is None else RANGE_EF
        depth = int(max(least, DEPTH_PER_HIT * self._top_k) / self._density)
        pending = np.arange(len(self._queries))
        parts: list[tuple[Ints, Neighbours]] = []
        while len(pending) and self._is_cheaper(depth):
            size = max(1, ROWS_AT_ONCE // depth)
            unsure = []
            for group in np.split(pending, range(size, len(pending), size)):
                found, sure = self._scan(group, depth)
                parts.append((group[sure], found))
                unsure.append(group[~sure])
            pending = np.concatenate(unsure)
            depth *= DEPTH_GROWTH
        if len(pending):
            parts.append((pending, self._exact(pending)))
        return scatter(parts, len(self._queries))

    def _is_cheaper(self, depth: int) -> bool:
        # The inner bound of a range search may hide any number of nearer rows.
        if self._bounds is not None and self._bounds.high < np.inf:
            return False
        return _is_cheaper(self._covered, depth, self._queries, self._exact_cost)

    def _scan(self, which: Ints, depth: int) -> tuple[Neighbours, npt.NDArray[np.bool_]]:
        """Returns (hits of those queries of ``which`` whose search was deep enough, which these
        are: bool (n,))."""
        everyone = len(which) == len(self._queries)
        queries, coded = self._queries, self._coded
        if not everyone:
            queries, coded = queries[which], coded[which]
        scores, labels = self._index.codes.nearest(coded, depth)
        # Scores that are no numbers leave fewer rows than asked for, and no query sure.
        is_whole = labels.min(axis=1) >= 0
        similarities = score_labels(queries, self._blocks, labels, self._metric)
        bar = _bar(scores, similarities)
        self._leave_out(similarities, labels)
        found = best_of_each(similarities, labels, self._top_k)
        worst = np.full(len(which), -np.inf, np.float32)
        full = found.counts == self._top_k
        worst[full] = found.similarities[np.cumsum(found.counts)[full] - 1]
        if self._bounds is not None:
            worst = np.maximum(worst, self._bounds.low)
        elif self._least > LOWEST:
            worst = np.maximum(worst, self._least)
        sure = is_whole & (worst >= bar)
        return part_of(found, sure), sure

    def _leave_out(self, similarities: Floats, labels: Ints) -> None:
        """What isn't to be found gets the worst similarity."""
        if self._limit == self._covered and self._rows is None and self._bounds is None:
            return
        kept = (labels >= 0) & (labels < self._limit)
        if self._rows is not None:
            kept[kept] = self._rows.mask[labels[kept]]
        if self._bounds is not None:
            kept &= self._bounds.holds(similarities)
        similarities[~kept] = -np.inf

    def _exact(self, which: Ints) -> Neighbours:
        covered = trimmed(self._blocks, 0, self._limit)
        return exact_search_prepared(
            covered, self._queries[which], self._metric, self._top_k, self._rows, self._bounds
        )


def _is_cheaper(covered: int, depth: int, queries: Floats, exact_ns: float) -> bool:
    """Whether so many codes are scanned, and so many rows then scored, sooner than all rows."""
    scale = queries.shape[1] / 100
    cost = covered * CODED_ROW_COST * scale + depth * SCORED_ROW_COST
    return depth < covered and cost < exact_ns


def _bar(scores: Floats, similarities: Floats) -> Floats:
    """float32 (nq,): hits that reach it are all there. scores: by code, (nq, depth), best first;
    similarities: of the same rows by their vectors."""
    with np.errstate(invalid="ignore", over="ignore"):
        bar: Floats = scores[:, -1] + SURE_DEVIATIONS * _deviations(scores, similarities)
    return bar


def _deviations(scores: Floats, similarities: Floats) -> Floats:
    """float32 (nq,): how far the ones are off the others, both (nq, depth)."""
    with np.errstate(invalid="ignore", over="ignore"):
        errors = scores - similarities
        deviations: Floats = np.sqrt(np.vecdot(errors, errors) / scores.shape[1])
    return deviations


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
