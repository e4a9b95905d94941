"""How SCANN's codes are trained, and whether they are good enough.

A view of the vectors is tried, and if its codes don't choose well a second one that suits rows with
outliers or far from 0; what is checked are the nearest of some of the rows, by their vectors, and
whether codes have them among the first. The finer codes are kept where they rank well what the
others chose. The usual rows take one training, and a scan for the checked ones.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.chosen import score_labels
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock, exact_search_prepared
from elanus.engine.index.dense.family import PIECE_ROWS, Source
from elanus.engine.index.dense.ivf import DEFAULT_NPROBE
from elanus.engine.index.dense.neighbours import Floats, prepare_queries
from elanus.engine.index.dense.products import are_blurred
from elanus.engine.index.dense.scann_view import View
from elanus.model.types import MetricType
from elanus.model.vectors import widened

DEFAULT_SUB_DIM = 2
TRAINING_ROWS = 100_000
ORIGIN_ROWS = 1_024
"""That origin and reach are taken of."""
REACHED, REACH = 0.9, 3.0
"""Rows are drawn in that are so many times further from the origin than this part of the others."""
ANISOTROPY = 0.2
"""Errors along a vector, which change its products with queries near it, count more than others."""
SCORED_BESIDE, SCORED_BESIDE_PART = 4, 4
"""Rows that are scored by their vectors beside the hits wanted: so many, and a quarter of these.
Of 3,300 hits that were checked bytes ranked none further behind."""
CHECKED_QUERIES, CHECKED_HITS = 64, 10
CHOSEN_DEPTH, CHOSEN_RIGHT = 50, 0.8
"""Codes are kept if they have this part of the best among so many candidates of all lists, or as
many as the square root of the rows. Seen by L2, IP and COSINE, of 1,000 to 300,000 rows: 0.98 to 1
of words and of clusters in 768 dimensions, 0.91 to 1 of random numbers and of walks in 64 to 768.
Where codes fail: 0.72 and less by IP beside a row a thousand times longer than others, 0.6 and less
of other outliers, groups and vectors far from 0."""
RANKED_DEPTH, RANKED_RIGHT = 100, 0.99
"""Finer codes are kept if they rank this part of the best of so many candidates, by their vectors,
among those that would be scored."""


@dataclass(frozen=True, slots=True)
class Trained:
    searcher: Any
    view: View
    has_fine_codes: bool


def library() -> Any:
    """Loaded when first used: it takes a while, and many servers have no such index."""
    from scann import scann_ops_pybind

    return scann_ops_pybind


def scored_for(top_k: int) -> int:
    return top_k + SCORED_BESIDE + top_k // SCORED_BESIDE_PART


def train(source: Source, nlist: int) -> Trained | None:
    """None if no codes choose well, which is noted."""
    check, parts = _Check(source), []
    vectors = np.empty((source.row_count, source.dim), np.float32)
    for view in _views(source):
        for number, piece in enumerate(source.pieces()):
            vectors[number * PIECE_ROWS : number * PIECE_ROWS + len(piece)] = view.queries(piece)
        searcher = _built(source, vectors, nlist, view, with_fine_codes=True)
        parts.append(check.part_chosen(searcher, view, nlist))
        if parts[-1] < CHOSEN_RIGHT:
            continue
        if check.ranks_well(searcher, view, nlist):
            return Trained(searcher, view, True)
        return Trained(_built(source, vectors, nlist, view, with_fine_codes=False), view, False)
    source.note(
        "codes choose too few of the nearest rows, lists of vectors are built instead of them: "
        f"found {max(parts):.2f}, expected {CHOSEN_RIGHT}"
    )
    return None


def _views(source: Source) -> Iterator[View]:
    """To be tried one after another."""
    plain = View.plain(source.metric)
    if source.metric is not MetricType.L2:
        yield plain
        if source.metric is MetricType.COSINE:
            yield View(True, _mean(source.sample(ORIGIN_ROWS)))
        return
    sample = source.sample(ORIGIN_ROWS)
    yield View(True, _mean(sample)) if are_blurred(sample) else plain
    middle = np.median(sample, axis=0).astype(np.float32)
    lengths = np.linalg.norm((sample - middle).astype(np.float64), axis=1)
    reach = REACH * float(np.quantile(lengths, REACHED))
    if 0 < reach < math.inf:
        yield View(True, middle, reach)


def _mean(sample: Floats) -> Floats:
    mean: Floats = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


class _Check:
    """Some of the rows as queries, and how similar their nearest are."""

    def __init__(self, source: Source) -> None:
        self._metric, self._row_count = source.metric, source.row_count
        vectors = np.ascontiguousarray(source.vectors)
        self._blocks = DenseColumn([VectorBlock(0, vectors)], source.dim).blocks(source.metric)
        step = math.ceil(source.row_count / CHECKED_QUERIES)
        self._queries = prepare_queries(widened(vectors[::step]), source.metric)
        best = exact_search_prepared(
            self._blocks, self._queries, source.metric, CHECKED_HITS, None, None
        )
        self._bars = best.similarities.reshape(len(self._queries), -1)[:, -1:]

    def part_chosen(self, searcher: Any, view: View, nlist: int) -> float:
        """Of the nearest, among the candidates by codes."""
        depth = max(CHOSEN_DEPTH, math.isqrt(self._row_count))
        found = self._similarities(searcher, view, nlist, depth)
        return _hits(found >= self._bars) / (len(found) * CHECKED_HITS)

    def ranks_well(self, searcher: Any, view: View, nlist: int) -> bool:
        found = self._similarities(searcher, view, nlist, RANKED_DEPTH)
        bars = np.partition(found, -CHECKED_HITS, axis=1)[:, -CHECKED_HITS, None]
        good = (found >= bars) & (found > -np.inf)
        return _hits(good[:, : scored_for(CHECKED_HITS)]) >= max(1, RANKED_RIGHT * _hits(good))

    def _similarities(self, searcher: Any, view: View, nlist: int, depth: int) -> Floats:
        """Of the candidates of all lists as the library ranks them, (queries, depth or all rows)
        by their vectors; -inf where there are fewer."""
        depth = min(depth, self._row_count)
        queries = view.queries(self._queries)
        found, scores = searcher.search_batched(queries, depth, depth, nlist, False, 0)
        labels = np.where(np.isnan(scores), -1, found.astype(np.int64))
        return score_labels(self._queries, self._blocks, labels, self._metric)


def _hits(good: npt.NDArray[np.bool_]) -> int:
    """Good ones of all queries; no more of each, of equal ones, than are wanted."""
    return int(np.minimum(good.sum(axis=1), CHECKED_HITS).sum())


def _built(
    source: Source, vectors: Floats, nlist: int, view: View, *, with_fine_codes: bool
) -> Any:
    distance = "squared_l2" if view.by_distance else "dot_product"
    builder = library().builder(vectors, 10, distance)
    builder.tree(
        num_leaves=nlist,
        num_leaves_to_search=min(DEFAULT_NPROBE, nlist),
        training_sample_size=min(source.row_count, TRAINING_ROWS),
    )
    builder.score_ah(
        source.number("sub_dim", DEFAULT_SUB_DIM),
        anisotropic_quantization_threshold=math.nan if view.by_distance else ANISOTROPY,
    )
    if with_fine_codes:
        builder.reorder(RANKED_DEPTH, quantize=True)
    builder.set_n_training_threads(source.threads)
    return builder.build().searcher
