"""Fusion of result lists, against a row-by-row reference."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.engine.rank import ReciprocalRank, Weighted, fuse, round_scores
from elanus.model.reads import Hits
from elanus.model.types import DENSE_METRICS, MetricType

Lists = list[list[tuple[Any, float]]]  # one sub-request: a list of (key, score) for each query


def hits(queries: Lists, strings: bool = False) -> Hits:
    rows = [row for query in queries for row in query]
    keys = [key for key, _ in rows]
    total = np.zeros(len(rows), np.int64)
    return Hits(
        counts=np.array([len(query) for query in queries], np.int64),
        scores=np.array([score for _, score in rows], np.float32),
        keys=pa.array(keys, pa.string()) if strings else np.array(keys, np.int64),
        timestamps=total.astype(np.uint64),
        sources=total,
        offsets=total,
    )


def reference(
    lists: Sequence[Lists],
    metrics: Sequence[MetricType],
    ranker: ReciprocalRank | Weighted,
    offset: int,
    limit: int,
) -> list[list[tuple[Any, float]]]:
    mixed = len({metric.larger_is_better for metric in metrics}) == 2
    answer = []
    for query in range(len(lists[0])):
        scores: dict[Any, np.float32] = {}
        for number, queries in enumerate(lists):
            for rank, (key, raw) in enumerate(queries[query], start=1):
                if isinstance(ranker, ReciprocalRank):
                    part = np.float32(1) / (np.float32(ranker.k) + np.float32(rank))
                else:
                    score = float(np.float32(raw))
                    metric = metrics[number]
                    if ranker.normalise or (mixed and metric is MetricType.L2):
                        score = {
                            MetricType.COSINE: (1 + score) / 2,
                            MetricType.IP: 0.5 + math.atan(score) / math.pi,
                            MetricType.L2: 1 - 2 * math.atan(score) / math.pi,
                        }[metric]
                    part = np.float32(ranker.weights[number]) * np.float32(score)
                scores[key] = scores.get(key, np.float32(0)) + part
        ascending = (
            isinstance(ranker, Weighted)
            and not ranker.normalise
            and all(metric is MetricType.L2 for metric in metrics)
        )
        ordered = sorted(scores.items(), key=lambda row: (row[1] if ascending else -row[1], row[0]))
        answer.append([(key, float(score)) for key, score in ordered[offset : offset + limit]])
    return answer


def as_lists(fused: Any) -> list[list[tuple[Any, float]]]:
    keys = fused.keys.tolist() if isinstance(fused.keys, np.ndarray) else fused.keys.to_pylist()
    rows = iter(zip(keys, fused.scores.tolist(), strict=True))
    return [[next(rows) for _ in range(count)] for count in fused.counts]


SCORES = st.floats(-4, 4, width=32).map(lambda x: round(x, 1))


@st.composite
def problems(draw: st.DrawFn) -> Any:
    strings = draw(st.booleans())
    keys = st.sampled_from(["a", "b", "ab", "é", "z"]) if strings else st.integers(-5, 10)
    nq = draw(st.integers(1, 3))
    count = draw(st.integers(1, 3))
    lists = [
        [
            [(key, draw(SCORES)) for key in draw(st.lists(keys, unique=True, max_size=6))]
            for _ in range(nq)
        ]
        for _ in range(count)
    ]
    metrics = [draw(st.sampled_from(DENSE_METRICS)) for _ in range(count)]
    weights = tuple(draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])) for _ in range(count))
    ranker = draw(
        st.sampled_from(
            [
                ReciprocalRank(),
                ReciprocalRank(1.5),
                Weighted(weights),
                Weighted(weights, normalise=True),
            ]
        )
    )
    return strings, lists, metrics, ranker


@given(problems(), st.integers(0, 3), st.integers(1, 5))
def test_fusion_equals_the_reference(problem: Any, offset: int, limit: int) -> None:
    strings, lists, metrics, ranker = problem
    fused = fuse(
        [hits(part, strings) for part in lists], metrics, ranker, offset=offset, limit=limit
    )
    expected = reference(lists, metrics, ranker, offset, limit)
    found = as_lists(fused)
    assert [[key for key, _ in query] for query in found] == [
        [key for key, _ in query] for query in expected
    ]
    for got, wanted in zip(found, expected, strict=True):
        assert [s for _, s in got] == pytest.approx([s for _, s in wanted], rel=1e-6, abs=1e-7)


def test_equal_fused_scores_are_ordered_by_key() -> None:
    first, second = hits([[(7, 1.0), (3, 0.5)]]), hits([[(3, 9.0), (7, 8.0)]])
    fused = fuse([first, second], [MetricType.IP] * 2, ReciprocalRank(), offset=0, limit=2)
    assert fused.keys.tolist() == [3, 7]
    assert fused.scores[0] == fused.scores[1] == np.float32(1 / 61) + np.float32(1 / 62)


def test_distances_that_are_not_normalised_are_ranked_ascending() -> None:
    lists = [hits([[(1, 0.1), (2, 4.0)]]), hits([[(1, 0.2), (2, 3.0)]])]
    fused = fuse(lists, [MetricType.L2] * 2, Weighted((1.0, 1.0)), offset=0, limit=2)
    assert fused.keys.tolist() == [1, 2]
    assert fused.scores.tolist() == pytest.approx([0.3, 7.0])


@pytest.mark.parametrize(
    ("decimals", "expected"), [(-1, 1.2345679), (0, 1.0), (3, 1.235), (6, 1.234568)]
)
def test_rounding(decimals: int, expected: float) -> None:
    rounded = round_scores(np.array([1.2345679], np.float32), decimals)
    assert rounded[0] == np.float32(expected)
