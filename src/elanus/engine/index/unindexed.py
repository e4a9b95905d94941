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
    equal_counts,
    merge_neighbours,
    prepare_queries,
    scatter,
)
from elanus.engine.index.interim import DEPTH_PER_HIT, MIN_ROWS, InterimIndex, trimmed
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
    if interim is None:
        whole = trimmed(blocks, 0, row_count)
    parts: list[tuple[Ints, Neighbours]] = []
    for i in range(len(queries)):
        one = queries[i : i + 1]
        if interim is None:
            scanned = [score_rows(one, block, query.metric, None) for block in whole]
            every = scanned[0] if len(scanned) == 1 else np.concatenate(scanned)
            found: Neighbours | None = _best_of(every, None, query.top_k, least)
        else:
            found = _with_codes(interim, blocks, one, query.top_k, least, row_count)
        if found is None:
            return None
        parts.append((np.array([i]), found))
    return scatter(parts, len(queries))


def _with_codes(
    interim: InterimIndex,
    blocks: Sequence[VectorBlock],
    one: Floats,
    top_k: int,
    least: float,
    row_count: int,
) -> Neighbours | None:
    """The best of the first ``row_count`` rows for one query. None if the codes can't tell."""
    for depth in interim.depths(top_k, least):
        chosen = interim.candidates(blocks, one, depth, row_count)
        if chosen is None:
            return None
        similarities, rows, bar = chosen
        found = _best_of(similarities, rows, top_k, least)
        count = len(found.offsets)
        worst = found.similarities.item(-1) if count == top_k else least
        is_sure = depth >= DEPTH_PER_HIT * count and worst >= bar
        interim.note_depth(count, depth=depth, is_sure=is_sure)
        if is_sure:
            return found
    return None


def _best_of(similarities: Floats, rows: Ints | None, top_k: int, least: float) -> Neighbours:
    """The best of similarities that are not below ``least``. rows: which these are the similarities
    of, None: of row 0 and so on."""
    if least > LOWEST:
        # Few are that good, mostly.
        good: Ints = (similarities >= least).nonzero()[0]
        if not len(good):
            return Neighbours.none(1)
        good = good.take((-similarities.take(good)).argsort(kind="stable")[:top_k])
    else:
        good = best(similarities, top_k)
    found = good if rows is None else rows.take(good)
    return Neighbours(equal_counts(1, len(good)), similarities.take(good), found)


def _least_similarity(query: VectorQuery) -> float:
    """Of a row that is of any use."""
    if query.least is None:
        return LOWEST
    return query.least if query.metric.larger_is_better else -query.least
