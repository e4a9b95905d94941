"""Exact search: every way through it gives what a float64 product gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elanus.engine.index.dense.exact import PIECE_ROWS, VectorBlock, exact_search
from elanus.engine.index.dense.neighbours import Bounds, inverse_norms
from elanus.engine.index.rows import RowSet
from elanus.model.types import DENSE_METRICS, MetricType


def similarities(vectors: np.ndarray, queries: np.ndarray, metric: MetricType) -> np.ndarray:
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric is MetricType.L2:
        return -((q[:, None] - x[None]) ** 2).sum(-1)
    products = q @ x.T
    if metric is MetricType.COSINE:
        lengths = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)
        products = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return products


@pytest.mark.parametrize("metric", DENSE_METRICS)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    row_count=st.sampled_from([1, 7, 300, PIECE_ROWS + 1_000]),
    nq=st.sampled_from([1, 3, 4, 30]),
    top_k=st.sampled_from([1, 10, 200, 6_000]),
    density=st.sampled_from([None, 0.0, 0.01, 0.3, 0.8]),
    bounded=st.booleans(),
)
def test_the_best_rows_with_their_scores(
    metric: MetricType,
    seed: int,
    row_count: int,
    nq: int,
    top_k: int,
    density: float | None,
    bounded: bool,
) -> None:
    random = np.random.default_rng(seed)
    # Whole numbers are exact in float32: ties are ties on every way.
    vectors = random.integers(-3, 4, (row_count, 8)).astype(np.float32)
    queries = random.integers(-3, 4, (nq, 8)).astype(np.float32)
    norms = inverse_norms(vectors) if metric is MetricType.COSINE else None
    cut = row_count // 3
    blocks = [
        VectorBlock(first, vectors[first:end], None if norms is None else norms[first:end])
        for first, end in ((0, cut), (cut, row_count))
        if first < end
    ]
    rows = None if density is None else RowSet(row_count, mask=random.random(row_count) < density)
    expected = similarities(vectors, queries, metric)
    # Bounds that no score comes near: between the values of whole numbers, or of cosines.
    bounds = Bounds(-0.30303, 0.70707) if metric is not MetricType.L2 else Bounds(-60.5, -9.5)
    wanted = np.ones(row_count, bool) if rows is None else rows.mask
    found = exact_search(blocks, queries, metric, top_k, rows, bounds if bounded else None)
    ends = np.cumsum(found.counts)
    for number in range(nq):
        own = slice(ends[number] - found.counts[number], ends[number])
        inside = wanted.copy()
        if bounded:
            inside &= (expected[number] > bounds.low) & (expected[number] <= bounds.high)
        ids = np.flatnonzero(inside)
        order = ids[np.lexsort((ids, -expected[number][ids]))][:top_k]
        offsets = found.offsets[own]
        assert len(offsets) == len(order)
        assert len(set(offsets.tolist())) == len(offsets)
        assert inside[offsets].all()
        np.testing.assert_allclose(found.similarities[own], expected[number][order], atol=1e-5)
        np.testing.assert_allclose(found.similarities[own], expected[number][offsets], atol=1e-5)
        if metric is not MetricType.COSINE:
            assert offsets.tolist() == order.tolist()


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_batch_finds_the_nearest_of_rows_that_are_close_together_and_far_from_zero(
    top_k: int,
) -> None:
    """Squared lengths of 31 million beside distances of 8."""
    vectors = np.repeat(np.arange(1_750, 2_000, dtype=np.float32)[:, None], 8, axis=1)
    asked = np.random.default_rng(0).permutation(250)
    found = exact_search([VectorBlock(0, vectors)], vectors[asked], MetricType.L2, top_k)
    assert found.offsets[::top_k].tolist() == asked.tolist()
    assert found.similarities[::top_k].tolist() == [0.0] * 250


def test_a_row_scores_the_same_alone_and_in_a_batch() -> None:
    random = np.random.default_rng(3)
    vectors = (random.standard_normal((9_000, 100)) * 50).astype(np.float32)
    queries = vectors[:40].copy()
    for metric in (MetricType.L2, MetricType.IP):
        together = exact_search([VectorBlock(0, vectors)], queries, metric, 5)
        for number in range(40):
            alone = exact_search([VectorBlock(0, vectors)], queries[number : number + 1], metric, 5)
            own = slice(number * 5, number * 5 + 5)
            np.testing.assert_allclose(together.similarities[own], alone.similarities, rtol=1e-6)
            assert together.offsets[own].tolist() == alone.offsets.tolist()
        if metric is MetricType.L2:
            assert together.similarities.reshape(40, 5)[:, 0].tolist() == [0.0] * 40


def test_lengths_of_tiny_huge_and_zero_vectors() -> None:
    vectors = np.array([[0, 0], [3e-30, 4e-30], [3e25, 4e25], [3, 4]], np.float32)
    np.testing.assert_allclose(inverse_norms(vectors), [0, 1 / 5e-30, 1 / 5e25, 0.2], rtol=1e-5)
