"""Searches of dense rows without a built index: growing rows, and sealed ones that wait for theirs.

What an interim index covers is chosen by its codes, the rest is scanned.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

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
    least_similarity,
    merge_neighbours,
    prepare_queries,
    scatter,
)
from elanus.engine.index.interim import (
    DEPTH_PER_HIT,
    MIN_ROWS,
    InterimIndex,
    trimmed,
)
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery

MIN_DENSITY = 0.5
"""If fewer of the rows are alive and pass the filter, those that codes choose hold few of them."""


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
    is_usual = bounds is None and len(queries) < MATRIX_QUERIES
    if is_usual and (rows is None or rows.density >= MIN_DENSITY):
        found = _search_most(blocks, interim, queries, query, row_count, rows)
        if found is not None:
            return found
    if interim is None:
        return scanned(0)
    found = interim.search(blocks, queries, query, rows, covered)
    if covered == row_count:
        return found
    return merge_neighbours([found, scanned(covered)], query.top_k)


def _search_most(
    blocks: Sequence[VectorBlock],
    interim: InterimIndex | None,
    queries: Floats,
    query: VectorQuery,
    row_count: int,
    rows: RowSet | None,
) -> Neighbours | None:
    """The best of the first ``row_count`` rows, most of which are in ``rows`` (None: all), for each
    of a few queries, in few steps: it is what nearly all searches of growing rows ask for, and some
    of these rows mostly are deleted. Whatever scores as the last hit is found, too: it has been
    scored, and asking again for more rows takes longer. None if the codes are too coarse for a
    query."""
    least = least_similarity(query)
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
            mask = None if rows is None else rows.mask
            found: Neighbours | None = _best_of(every, None, query.top_k, least, mask)
        else:
            found = _with_codes(interim, blocks, one, query.top_k, least, row_count, rows)
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
    wanted: RowSet | None,
) -> Neighbours | None:
    """The best of ``wanted`` (None: all) among the first ``row_count`` rows for one query. None if
    the codes can't tell."""
    density, mask = (1.0, None) if wanted is None else (wanted.density, wanted.mask)
    for depth in interim.depths(top_k, least, density):
        chosen = interim.candidates(blocks, one, depth, row_count)
        if chosen is None:
            return None
        found = _best_of(chosen.similarities, chosen.rows, top_k, least, mask)
        count = min(len(found.offsets), top_k)
        worst = found.similarities.item(-1) if count == top_k else least
        reach = chosen.reach(worst)
        needed = max(chosen.depth_of(reach), math.ceil(DEPTH_PER_HIT * count / density))
        interim.usual_depth.note(needed)
        if depth >= needed:
            # As good as ``reach`` may be rows behind those that were looked at, if codes are exact.
            is_clear = chosen.scores.item(-1) < reach
            return found if is_clear else replace(found, holds_ties=False)
    return None


def _best_of(
    similarities: Floats,
    rows: Ints | None,
    top_k: int,
    least: float,
    mask: npt.NDArray[np.bool_] | None,
) -> Neighbours:
    """The best of similarities that are not below ``least``, and what ties with the last of them.
    rows: which these are the similarities of, None: of row 0 and so on. mask: which of all rows may
    be found, None: any."""
    if least > LOWEST:
        # Few are that good, mostly.
        good: Ints = (similarities >= least).nonzero()[0]
        if mask is not None:
            good = good[mask.take(good if rows is None else rows.take(good))]
        good = good.take((-similarities.take(good)).argsort(kind="stable"))
        if len(good) > top_k:
            scores = similarities.take(good)
            good = good[(scores >= scores[top_k - 1]).nonzero()[0]]
    else:
        if mask is not None:
            passing = mask if rows is None else mask.take(rows)
            similarities = np.where(passing, similarities, -np.inf)
        good = best(similarities, top_k)
        if len(good) == top_k:
            worst = similarities[good.item(-1)]
            tied = (similarities == worst).nonzero()[0]
            if len(tied) > 1:
                good = np.concatenate((good[similarities.take(good) > worst], tied))
    found = good if rows is None else rows.take(good)
    return Neighbours(equal_counts(1, len(good)), similarities.take(good), found, holds_ties=True)
