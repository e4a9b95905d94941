"""A query finds the same alone and among others, ties by row."""

import numpy as np
import pytest

from elanus.engine.index.dense.chosen import best_labels, score_labels
from elanus.engine.index.dense.exact import VectorBlock, score_pairs
from elanus.engine.index.dense.neighbours import best_of_each, inverse_norms, prepare_queries
from elanus.model.types import MetricType


@pytest.mark.parametrize("dim", [3, 100, 768])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e25])
def test_a_query_is_prepared_alike_alone_and_among_others(dim: int, scale: float) -> None:
    vectors = np.random.default_rng(1).standard_normal((50, dim)).astype(np.float32)
    vectors *= np.float32(scale)
    together = prepare_queries(vectors, MetricType.COSINE)
    alone = [prepare_queries(vectors[i : i + 1], MetricType.COSINE)[0] for i in range(50)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.IP, MetricType.COSINE])
@pytest.mark.parametrize("block_count", [1, 3])
def test_rows_of_each_query_are_scored_as_pairs_are(metric: MetricType, block_count: int) -> None:
    random = np.random.default_rng(2)
    rows = random.standard_normal((90, 20)).astype(np.float32)
    rows[-1] = 0
    norms = inverse_norms(rows)
    blocks = [
        VectorBlock(part[0], rows[part], norms[part])
        for part in np.split(np.arange(90), block_count)
    ]
    queries = prepare_queries(random.standard_normal((4, 20)).astype(np.float32), metric)
    labels = random.integers(0, 90, (4, 7))
    labels[1, 5:] = labels[2, 6:] = -1
    found = score_labels(queries, blocks, labels, metric)
    owners = np.repeat(np.arange(4), 7)
    whole = VectorBlock(0, rows, norms)
    expected = score_pairs(queries, owners, whole, np.maximum(labels, 0).ravel(), metric)
    np.testing.assert_array_equal(
        found, np.where(labels < 0, -np.inf, expected.reshape(labels.shape))
    )


@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.IP, MetricType.COSINE])
@pytest.mark.parametrize("block_count", [1, 3])
def test_the_best_candidates_of_a_query_are_the_same_alone_and_among_others(
    metric: MetricType, block_count: int
) -> None:
    random = np.random.default_rng(4)
    rows = random.standard_normal((90, 20)).astype(np.float32)
    rows[40:50] = rows[30:40]
    norms = inverse_norms(rows)
    blocks = [
        VectorBlock(part[0], rows[part], norms[part])
        for part in np.split(np.arange(90), block_count)
    ]
    queries = prepare_queries(random.standard_normal((60, 20)).astype(np.float32), metric)
    labels = np.stack([random.permutation(90)[:17] for _ in queries])
    labels[::5, 14:] = labels[::7, 3:] = -1
    together = best_labels(queries, blocks, labels, metric, 5)
    ends = np.cumsum(together.counts)
    for number, end in enumerate(ends.tolist()):
        alone = best_labels(queries[number : number + 1], blocks, labels[number][None], metric, 5)
        which = slice(end - together.counts[number], end)
        np.testing.assert_array_equal(alone.offsets, together.offsets[which])
        np.testing.assert_array_equal(alone.similarities, together.similarities[which])
    scores = score_labels(queries, blocks, labels, metric)
    expected = best_of_each(scores, labels, 5)
    np.testing.assert_array_equal(together.offsets, expected.offsets)


def test_a_query_that_changed_in_its_place_is_compared_anew() -> None:
    rows = np.eye(4, dtype=np.float32)
    labels = np.arange(4)[None]
    query = np.array([[1, 0, 0, 0]], np.float32)
    for place in range(4):
        query[:] = np.eye(4)[place]
        for metric in (MetricType.COSINE, MetricType.IP):
            block = VectorBlock(0, rows, inverse_norms(rows))
            found = best_labels(prepare_queries(query, metric), [block], labels, metric, 1)
            assert found.offsets.tolist() == [place]


@pytest.mark.parametrize("nq", [1, 5])
def test_the_best_of_each_query_are_ordered_by_similarity_then_row(nq: int) -> None:
    random = np.random.default_rng(3)
    for top_k in (1, 4, 30):
        similarities = random.integers(0, 9, (nq, 20)).astype(np.float32)
        similarities[random.random((nq, 20)) < 0.2] = -np.inf
        labels = np.stack([random.permutation(20) for _ in range(nq)])
        found = best_of_each(similarities, labels, top_k)
        expected = [
            sorted((-s, row) for s, row in zip(*each, strict=True) if s > -np.inf)[:top_k]
            for each in zip(similarities.tolist(), labels.tolist(), strict=True)
        ]
        assert found.counts.tolist() == [len(each) for each in expected]
        assert found.offsets.tolist() == [row for each in expected for _, row in each]
