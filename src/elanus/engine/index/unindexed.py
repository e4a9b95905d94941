"""Searches of dense rows without a built index: growing rows, and sealed ones that wait for theirs.

What an interim index covers is chosen by its codes, the rest is scanned.
"""

from collections.abc import Sequence

import numpy as np

from elanus.engine.index.dense.exact import (
    MATRIX_QUERIES,
    VectorBlock,
    exact_search_prepared,
    score_rows,
)
from elanus.engine.index.dense.neighbours import (
    LOWEST,
    Bounds,
    Floats,
    Ints,
    Neighbours,
    best,
    merge_neighbours,
    prepare_queries,
    scatter,
)
from elanus.engine.index.interim import DEPTH_PER_HIT, MIN_ROWS, InterimIndex, depths, trimmed
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery


def search_unindexed(
    blocks: Sequence[VectorBlock],
    interim: InterimIndex | None,
    query: VectorQuery,
    row_count: int,
    rows: RowSet | None,
) -> Neighbours:
    """The best of ``rows`` (None: all) among the first ``row_count`` rows: the covered prefix by
    its codes, the rest by an exact scan."""
    if not row_count:
        return Neighbours.none(len(query.vectors))
    queries = prepare_queries(query.vectors, query.metric)
    bounds = Bounds.of(query)

    def scanned(first_row: int) -> Neighbours:
        part = trimmed(blocks, first_row, row_count)
        return exact_search_prepared(part, queries, query.metric, query.top_k, rows, bounds)

    covered = 0 if interim is None else min(interim.covered, row_count)
    if interim is None or interim.metric is not query.metric or covered < MIN_ROWS // 2:
        interim, covered = None, 0
    if rows is None and bounds is None and len(queries) < MATRIX_QUERIES:
        found = _search_all(blocks, interim, queries, query, row_count)
        if found is not None:
            return found
    if interim is None:
        return scanned(0)
    found = interim.search(blocks, queries, query, rows, covered)
    if covered == row_count:
        return found
    return merge_neighbours([found, scanned(covered)], query.top_k)


def _search_all(
    blocks: Sequence[VectorBlock],
    interim: InterimIndex | None,
    queries: Floats,
    query: VectorQuery,
    row_count: int,
) -> Neighbours | None:
    """The best of the first ``row_count`` rows for each of a few queries, in few steps: it is what
    nearly all searches of growing rows ask for. None if the codes are too coarse for a query."""
    least = _least_similarity(query)
    covered = 0 if interim is None else interim.covered
    if covered > row_count:
        return None
    tail = trimmed(blocks, covered, row_count)
    parts: list[tuple[Ints, Neighbours]] = []
    for i in range(len(queries)):
        one = queries[i : i + 1]
        scanned = [score_rows(one, block, query.metric, None) for block in tail]
        if interim is None:
            found: Neighbours | None = _best_of(scanned, query.top_k, least)
        else:
            found = _with_codes(interim, blocks, one, scanned, query.top_k, least)
        if found is None:
            return None
        parts.append((np.array([i]), found))
    return scatter(parts, len(queries))


def _with_codes(
    interim: InterimIndex,
    blocks: Sequence[VectorBlock],
    one: Floats,
    scanned: Sequence[Floats],
    top_k: int,
    least: float,
) -> Neighbours | None:
    """The best for one query, of the rows behind the covered ones, which are ``scanned``, and of
    these. None if the codes can't tell."""
    for depth in depths(top_k, least):
        chosen = interim.candidates(blocks, one, depth)
        if chosen is None:
            return None
        similarities, labels, bar = chosen
        found = _best_of([similarities[0], *scanned], top_k, least)
        worst = found.similarities[-1] if found.counts[0] == top_k else least
        is_deep = depth >= DEPTH_PER_HIT * found.counts[0]
        if is_deep and worst >= bar[0]:
            places = found.offsets
            behind = places + (interim.covered - depth)
            offsets = np.where(places < depth, labels[0].take(places, mode="clip"), behind)
            return Neighbours(found.counts, found.similarities, offsets)
    return None


def _best_of(scored: Sequence[Floats], top_k: int, least: float) -> Neighbours:
    """The best of similarities, one array after another, that are not below ``least``; their places
    as offsets."""
    every = scored[0] if len(scored) == 1 else np.concatenate(scored)
    if least > LOWEST and every.max(initial=LOWEST) < least:
        return Neighbours.none(1)
    chosen = best(every, top_k)
    similarities = every[chosen]
    if least > LOWEST:
        kept = int(np.count_nonzero(similarities >= least))
        chosen, similarities = chosen[:kept], similarities[:kept]
    return Neighbours(np.array([len(chosen)]), similarities, chosen)


def _least_similarity(query: VectorQuery) -> float:
    """Of a row that is of any use."""
    if query.least is None:
        return LOWEST
    return query.least if query.metric.larger_is_better else -query.least
