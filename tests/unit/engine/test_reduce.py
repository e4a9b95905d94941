"""Merging answers: order, ties, duplicates and cuts, against sorting in plain Python."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.engine.reduce import empty_hits, empty_rows, merge_hits, merge_rows, slice_hits
from elanus.model.reads import Hits, Rows

hit = st.tuples(st.integers(0, 8), st.integers(-2, 2), st.integers(1, 5))
"""(key, score, ts): few values of each, so that all sorts of ties occur."""
hits_of_queries = st.lists(st.lists(hit, max_size=6), min_size=2, max_size=2)


def keys_as(kind: str, numbers: list[int]) -> Any:
    if kind == "int":
        return np.array(numbers, np.int64)
    return pa.array([f"k{number}" for number in numbers], pa.string())


def plain(keys: Any) -> list[Any]:
    return [int(key[1:]) if isinstance(key, str) else key for key in keys.tolist()]


def part_of(kind: str, queries: list[list[Any]], source: int, sign: int) -> Hits:
    ordered = [sorted(query, key=lambda h: (-sign * h[1], h[0])) for query in queries]
    every = [one for query in ordered for one in query]
    return Hits(
        np.array([len(query) for query in ordered], np.int64),
        np.array([one[1] for one in every], np.float32),
        keys_as(kind, [one[0] for one in every]),
        np.array([one[2] for one in every], np.uint64),
        np.full(len(every), source, np.int64),
        np.arange(len(every)),
    )


@pytest.mark.parametrize("kind", ["int", "text"])
@given(
    parts=st.lists(hits_of_queries, min_size=1, max_size=4),
    nq=st.integers(1, 2),
    top_k=st.integers(1, 8),
    larger=st.booleans(),
)
def test_each_query_gets_its_best_keys_once(
    kind: str, parts: list[Any], nq: int, top_k: int, larger: bool
) -> None:
    sign = 1 if larger else -1
    inputs = [part_of(kind, queries[:nq], number, sign) for number, queries in enumerate(parts)]
    merged = merge_hits(inputs, top_k, larger)
    start = 0
    for query in range(nq):
        best: dict[int, int] = {}
        for queries in parts:
            for key, score, _ in queries[query]:
                best[key] = max(best.get(key, sign * score), sign * score)
        expected = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:top_k]
        end = start + int(merged.counts[query])
        found = zip(plain(merged.keys)[start:end], merged.scores[start:end], strict=True)
        assert [(key, sign * score) for key, score in found] == expected
        start = end
    for position in range(len(merged.scores)):
        origin = inputs[int(merged.sources[position])]
        at = int(merged.offsets[position])
        assert origin.scores[at] == merged.scores[position]
        assert origin.keys[at] == merged.keys[position]
        assert origin.timestamps[at] == merged.timestamps[position]


@pytest.mark.parametrize("kind", ["int", "text"])
@given(
    parts=st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), max_size=8), max_size=4
    ),
    limit=st.none() | st.integers(0, 8),
)
def test_rows_ascend_and_the_latest_of_a_key_stays(
    kind: str, parts: list[Any], limit: int | None
) -> None:
    inputs = []
    for number, rows in enumerate(parts):
        rows = sorted(rows)
        inputs.append(
            Rows(
                keys_as(kind, [key for key, _ in rows]),
                np.array([ts for _, ts in rows], np.uint64),
                np.full(len(rows), number, np.int64),
                np.arange(len(rows)),
            )
        )
    merged = merge_rows(inputs, limit)
    latest: dict[int, int] = {}
    for rows in parts:
        for key, ts in rows:
            latest[key] = max(latest.get(key, 0), ts)
    expected = sorted(latest.items())[:limit]
    assert list(zip(plain(merged.keys), merged.timestamps.tolist(), strict=True)) == expected


def test_an_offset_is_cut_from_each_query() -> None:
    queries = [[(1, 5, 1), (2, 4, 1), (3, 3, 1)], [(4, 9, 1)], []]
    cut = slice_hits(part_of("int", queries, 0, 1), 1, 1)
    assert cut.counts.tolist() == [1, 0, 0]
    assert cut.keys.tolist() == [2]
    assert slice_hits(part_of("int", queries, 0, 1), 1).keys.tolist() == [2, 3]


def test_nothing_found_keeps_the_number_of_queries() -> None:
    merged = merge_hits([empty_hits(3), empty_hits(3)], 10, True)
    assert merged.counts.tolist() == [0, 0, 0]
    assert len(empty_hits(1, string_keys=True).keys) == 0
    assert len(merge_rows([empty_rows()], 5).timestamps) == 0
    assert len(merge_rows([], 5).timestamps) == 0
    with pytest.raises(ValueError):
        merge_hits([], 10, True)
