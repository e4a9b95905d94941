"""What is particular to one kind's index: BM25 weights and dropped terms of sparse lists, lists of
binary vectors, codes of halves; and files that are not what they should be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elanus.engine.index.base import Interim
from elanus.engine.index.binary.column import BinaryColumn
from elanus.engine.index.binary.exact import BinaryBlock
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.files import build_index, open_index
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.column import SparseColumn
from elanus.engine.index.sparse.inverted import Bm25, InvertedLists
from elanus.engine.index.sparse.scan import SparseQuery, score_all, score_some
from elanus.errors import CorruptData
from elanus.model.reads import VectorQuery
from elanus.model.types import DataType, MetricType
from elanus.model.vectors import SparseRows, narrowed, sparse_column, vector_column, widened


def documents(rows: int, words: int, random: np.random.Generator, scale: int = 1) -> Any:
    """A column with counts of words; ``scale``: what indices are multiplied with."""
    held = random.random((rows, words)) < 0.3
    _, word = np.nonzero(held)
    offsets = np.cumsum([0, *held.sum(axis=1)])
    counts = random.integers(1, 5, len(word)).astype(np.float32)
    return sparse_column(offsets, (word * scale).astype(np.uint32), counts)


@pytest.mark.parametrize("scale", [1, 50_000_000])
def test_lists_and_rows_give_the_same_scores_to_the_bit(scale: int) -> None:
    random = np.random.default_rng(1)
    column = SparseRows.of(documents(300, 60, random, scale))
    lists = InvertedLists.build(column)
    for _ in range(20):
        words = np.sort(random.choice(80, random.integers(1, 20), replace=False)) * scale
        weights = random.random(len(words)).astype(np.float32)
        query = SparseQuery((words % 2**32).astype(np.uint32), weights)
        if (np.diff(query.indices.astype(np.int64)) <= 0).any():
            continue
        scores = lists.scores(query)
        assert (scores == score_all(column, query, 300)).all()
        some = random.permutation(300)[:17]
        assert (scores[some] == score_some(column, query, some)).all()


def test_bm25_weights_follow_the_formula() -> None:
    random = np.random.default_rng(2)
    column = SparseRows.of(documents(200, 50, random))
    lists = InvertedLists.build(column)
    query = SparseQuery(np.array([3, 7, 49], np.uint32), np.array([2.0, 0.5, 1.0], np.float32))
    k1, b, average = 1.2, 0.75, 31.5
    expected = []
    for number in range(200):
        counts = dict(zip(*(part.tolist() for part in column.row(number)), strict=True))
        length = sum(counts.values())
        assert lists.lengths[number] == length
        expected.append(
            sum(
                idf * counts[word] * (k1 + 1) / (counts[word] + k1 * (1 - b + b * length / average))
                for word, idf in zip(query.indices.tolist(), query.weights, strict=True)
                if word in counts
            )
        )
    found = lists.scores(query, Bm25(k1, b, average))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_dropped_terms_and_refined_hits(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    column = documents(500, 40, random)
    path = str(tmp_path / "index")
    build_index("SPARSE_WAND", MetricType.IP, {}, column, path)
    index = open_index(path, "SPARSE_WAND", MetricType.IP, 500, 0)
    asked = sparse_column([0, 4], np.arange(4, dtype=np.uint32), np.float32([4, 3, 0.01, 0.02]))
    whole = SparseQuery(np.arange(4, dtype=np.uint32), np.float32([4, 3, 0.01, 0.02]))
    exact = score_all(SparseRows.of(column), whole, 500)

    def search(**params: Any) -> Any:
        query = VectorQuery("v", MetricType.IP, asked, 10, params)
        return index.search(SparseColumn([column]), query, None)

    dropped = search(drop_ratio_search=0.5)
    larger = score_all(SparseRows.of(column), whole.without_smallest(0.5), 500)
    assert (dropped.similarities == np.sort(larger)[::-1][:10]).all()
    refined = search(drop_ratio_search=0.5, refine_factor=50)
    assert (refined.similarities == np.sort(exact)[::-1][:10]).all()
    assert (search().similarities == np.sort(exact)[::-1][:10]).all()


def clustered_bits(rows: int, random: np.random.Generator) -> np.ndarray:
    centres = random.random((40, 128)) < 0.5
    noise = random.random((rows, 128)) < 0.1
    return np.packbits(centres[random.integers(0, 40, rows)] ^ noise, axis=1)


def test_lists_of_binary_vectors_find_most_of_the_nearest(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    vectors = clustered_bits(5_000, random)
    path = str(tmp_path / "index")
    build_index("BIN_IVF_FLAT", MetricType.HAMMING, {"nlist": "64"}, vectors, path)
    index = open_index(path, "BIN_IVF_FLAT", MetricType.HAMMING, 5_000, 128)
    column = BinaryColumn([BinaryBlock(0, vectors)], 128)
    for part in (1.0, 0.3, 0.01):
        rows = RowSet(5_000, mask=random.random(5_000) < part)
        query = VectorQuery("v", MetricType.HAMMING, vectors[:30], 10)
        found = index.search(column, query, rows)
        exact = column.search(query, 5_000, rows, None)
        assert found.counts.tolist() == exact.counts.tolist()
        assert (found.similarities == exact.similarities).mean() > 0.95


@pytest.mark.parametrize("kind", [DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR])
@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.COSINE])
def test_codes_of_halves_find_the_nearest(kind: DataType, metric: MetricType) -> None:
    random = np.random.default_rng(5)
    vectors = narrowed(random.normal(size=(9_000, 32)).astype(np.float32), kind)
    column = DenseColumn([VectorBlock(0, vectors[:5_000]), VectorBlock(5_000, vectors[5_000:])], 32)
    assert column.is_interim_due(None)
    interim = column.extended(metric, None)
    assert isinstance(interim, Interim)
    assert interim.covered == 9_000
    for count in (2, 20):
        query = VectorQuery("v", metric, widened(vectors[:count]), 10)
        found = column.search(query, 9_000, None, interim)
        exact = column.search(query, 9_000, None, None)
        assert (found.offsets == exact.offsets).mean() > 0.95
        np.testing.assert_allclose(found.similarities, exact.similarities, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.IP, MetricType.COSINE])
@pytest.mark.parametrize(
    "kind", [DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR, DataType.INT8_VECTOR]
)
def test_a_graph_over_narrow_elements_takes_no_more_room_than_they(
    kind: DataType, metric: MetricType, tmp_path: Path
) -> None:
    random = np.random.default_rng(7)
    floats = random.normal(size=(2_000, 64)).astype(np.float32)
    floats *= random.uniform(0.5, 1.5, (2_000, 1)).astype(np.float32)
    is_int = kind is DataType.INT8_VECTOR
    vectors = np.rint(floats * 20).astype(np.int8) if is_int else narrowed(floats, kind)
    path = tmp_path / "index"
    params = {"M": "16", "efConstruction": "100"}
    build_index("HNSW", metric, params, vectors, str(path))
    links_bytes = 2_000 * 33 * 4
    assert path.stat().st_size < vectors.nbytes + links_bytes * 1.3
    index = open_index(str(path), "HNSW", metric, 2_000, 64, params)
    column = DenseColumn([VectorBlock(0, vectors)], 64)
    query = VectorQuery("v", metric, widened(vectors[:40]), 10, {"ef": 200})
    found, exact = index.search(column, query, None), column.search(query, 2_000, None, None)
    assert (found.offsets == exact.offsets).mean() > 0.9
    same = np.intersect1d(found.offsets, exact.offsets)
    assert len(same) > 0.95 * len(np.unique(exact.offsets))
    shared = found.offsets == exact.offsets
    np.testing.assert_allclose(found.similarities[shared], exact.similarities[shared], rtol=1e-4)


BUILT = [
    ("SPARSE_INVERTED_INDEX", MetricType.IP, 0),
    ("BIN_IVF_FLAT", MetricType.HAMMING, 128),
]


@pytest.mark.parametrize(("index_type", "metric", "dim"), BUILT)
def test_files_that_are_not_whole_are_refused_by_name(
    index_type: str, metric: MetricType, dim: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(6)
    vectors: Any = vector_column(clustered_bits(500, random)) if dim else documents(500, 9, random)
    path = tmp_path / "broken"
    build_index(index_type, metric, {}, vectors, str(path))
    data = path.read_bytes()
    for content in (b"", data[:5], data[:100], data[: len(data) // 2], b"x" * len(data)):
        path.write_bytes(content)
        with pytest.raises(CorruptData, match="broken"):
            open_index(str(path), index_type, metric, 500, dim)
    path.write_bytes(data)
    with pytest.raises(CorruptData, match="expected 499"):
        open_index(str(path), index_type, metric, 499, dim)
    other_type, other_metric, other_dim = next(case for case in BUILT if case[0] != index_type)
    with pytest.raises(CorruptData, match="broken holds"):
        open_index(str(path), other_type, other_metric, 500, other_dim)
