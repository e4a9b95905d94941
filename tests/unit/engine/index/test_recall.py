"""Recall under filters, whatever they keep and however they relate to the query; range search."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from tests.unit.engine.index.dense_indexes import Searchable, built, walking

from elanus.engine.index.dense.column import with_norms
from elanus.engine.index.dense.exact import VectorBlock, exact_search
from elanus.engine.index.dense.neighbours import Neighbours, prepare_queries
from elanus.engine.index.interim import InterimIndex
from elanus.engine.index.rows import RowSet
from elanus.engine.index.unindexed import search_unindexed
from elanus.model.reads import VectorQuery
from elanus.model.types import DENSE_METRICS, MetricType

__all__ = ["walking"]
ROWS, DIM, QUERIES = 20_000, 24, 30
INDEXES = {
    "HNSW": (MetricType.L2, {"M": "16", "efConstruction": "100"}),
    "HNSW_SQ": (MetricType.IP, {"M": "16", "efConstruction": "100", "refine": "true"}),
    "IVF_FLAT": (MetricType.COSINE, {"nlist": "64"}),
    "IVF_PQ": (MetricType.L2, {"nlist": "64", "m": "12", "refine": "true"}),
    "SCANN": (MetricType.COSINE, {"nlist": "64"}),
    "DISKANN": (MetricType.COSINE, {"max_degree": "32", "search_list_size": "100"}),
}
NAMES = [*INDEXES, "interim"]
ASKED = {"ef": 80, "nprobe": 16, "refine_k": 10.0, "reorder_k": 150, "search_list": 100}


class Interim(Searchable):
    """No built index, but codes of three quarters of the rows."""

    def __init__(self, vectors: np.ndarray) -> None:
        super().__init__(None, vectors, MetricType.L2)
        self._blocks = [VectorBlock(0, vectors[:9_000]), VectorBlock(9_000, vectors[9_000:])]
        trained = InterimIndex.train(self._blocks, MetricType.L2, ROWS)
        self._interim = trained.extended(self._blocks, 15_000)

    def search(self, query: VectorQuery, rows: RowSet | None = None) -> Neighbours:
        return search_unindexed(self._blocks, self._interim, query, ROWS, rows)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    random = np.random.default_rng(1)
    mixing = random.standard_normal((8, DIM))
    rows = random.standard_normal((ROWS + QUERIES, 8)) @ mixing
    return (rows + 0.3 * random.standard_normal(rows.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def searches(
    tmp_path_factory: pytest.TempPathFactory, vectors: np.ndarray
) -> dict[str, Searchable]:
    folder = tmp_path_factory.mktemp("index")
    rows = vectors[:ROWS]
    found = {
        name: built(folder, name, metric, rows, params)
        for name, (metric, params) in INDEXES.items()
    }
    return {**found, "interim": Interim(rows)}


def masks(kind: str, part: float, similar: np.ndarray) -> np.ndarray:
    """Rows kept for one query. ``similar``: the query's similarity to each row."""
    random = np.random.default_rng(7)
    if kind == "random":
        return random.random(ROWS) < part
    noisy = similar + random.standard_normal(ROWS) * similar.std() * 0.3
    order = np.argsort(-noisy if kind == "near" else noisy)
    mask = np.zeros(ROWS, bool)
    mask[order[: int(ROWS * part)]] = True
    return mask


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["random", "near", "far"])
@pytest.mark.parametrize("part", [0.9, 0.5, 0.1, 0.01, 0.001])
def test_recall_holds_under_filters(
    searches: dict[str, Searchable],
    vectors: np.ndarray,
    name: str,
    kind: str,
    part: float,
) -> None:
    index = searches[name]
    metric = index.metric
    rows = prepare_queries(vectors, metric)
    found = 0
    for query in rows[ROWS:]:
        if metric is MetricType.L2:
            similar = -((rows[:ROWS] - query) ** 2).sum(1)
        else:
            similar = rows[:ROWS] @ query
        kept = RowSet(ROWS, mask=masks(kind, part, similar))
        answer = index.search(VectorQuery("v", metric, query[None], 10, ASKED), kept)
        assert answer.counts.tolist() == [10]
        assert kept.mask[answer.offsets].all()
        best = kept.ids[np.argsort(-similar[kept.ids])[:10]]
        found += len({*best.tolist()} & {*answer.offsets.tolist()})
    assert found / (10 * QUERIES) >= 0.95


@pytest.mark.parametrize("metric", DENSE_METRICS)
@pytest.mark.parametrize("nq", [1, 3, 6])
@pytest.mark.parametrize("end", [20_000, 15_000, 12_000])
def test_codes_and_the_rows_behind_them_find_the_best_of_a_prefix(
    vectors: np.ndarray, metric: MetricType, nq: int, end: int
) -> None:
    blocks = [with_norms(VectorBlock(0, vectors[:ROWS]))]
    codes = InterimIndex.train(blocks, metric, 15_000).extended(blocks, 15_000)
    found, top_k = 0, 10
    for start in range(ROWS, ROWS + QUERIES, nq):
        query = VectorQuery("v", metric, vectors[start : start + nq], top_k)
        answer = search_unindexed(blocks, codes, query, end, None)
        exact = search_unindexed(blocks, None, query, end, None)
        assert answer.counts.tolist() == [top_k] * nq
        for n in range(nq):
            own = slice(n * top_k, (n + 1) * top_k)
            same = np.isin(answer.offsets[own], exact.offsets[own])
            ranked = answer.similarities[own]
            assert (ranked[1:] <= ranked[:-1]).all()
            missed = ~np.isin(exact.offsets[own], answer.offsets[own])
            scores = exact.similarities[own][~missed]
            np.testing.assert_allclose(ranked[same], scores, rtol=1e-5)
            found += int(same.sum())
    assert found / (top_k * QUERIES) >= 0.98


@pytest.mark.parametrize("metric", DENSE_METRICS)
@pytest.mark.parametrize("place", [0, 4, 40])
def test_rows_that_are_good_enough_are_found(
    vectors: np.ndarray, metric: MetricType, place: int
) -> None:
    """As good as the one at a place among the best: none, some or all of the wanted are."""
    blocks = [with_norms(VectorBlock(0, vectors[:ROWS]))]
    codes = InterimIndex.train(blocks, metric, 19_000).extended(blocks, 19_000)
    sign, found, wanted = 1 if metric.larger_is_better else -1, 0, 0
    for query in vectors[ROWS:]:
        asked = VectorQuery("v", metric, query[None], 10)
        exact = exact_search(blocks, query[None], metric, 41)
        least = float(exact.similarities[place])
        limited = replace(asked, least=sign * (least + 1e-6 * abs(least)))
        for interim in (codes, None):
            answer = search_unindexed(blocks, interim, limited, ROWS, None)
            good = exact.offsets[: min(10, place)]
            found += int(np.isin(good, answer.offsets).sum())
            wanted += len(good)
    assert found >= 0.97 * wanted


@pytest.mark.parametrize("name", NAMES)
def test_fewer_survivors_than_wanted_are_all_found(
    searches: dict[str, Searchable], vectors: np.ndarray, name: str
) -> None:
    index = searches[name]
    metric = index.metric
    mask = np.zeros(ROWS, bool)
    mask[[5, 700, 16_000]] = True
    for nq in (1, 6):
        query = VectorQuery("v", metric, vectors[ROWS : ROWS + nq], 10, {"ef": 16})
        found = index.search(query, RowSet(ROWS, mask=mask))
        assert found.counts.tolist() == [3] * nq
        assert set(found.offsets.tolist()) == {5, 700, 16_000}
        none = index.search(query, RowSet(ROWS, mask=np.zeros(ROWS, bool)))
        assert none.counts.tolist() == [0] * nq


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ring", [False, True])
def test_range_search_finds_what_lies_within_the_bounds(
    searches: dict[str, Searchable], vectors: np.ndarray, name: str, ring: bool
) -> None:
    index = searches[name]
    metric = index.metric
    for query in vectors[ROWS : ROWS + 8]:
        every = exact_search(
            [VectorBlock(0, prepare_queries(vectors[:ROWS], metric))], query[None], metric, ROWS
        )
        sign = 1 if metric.larger_is_better else -1
        radius = float(every.similarities[300]) * sign
        inner = float(every.similarities[100]) * sign if ring else None
        asked = VectorQuery(
            "v", metric, query[None], 400, {"nprobe": 64}, radius=radius, range_filter=inner
        )
        found = index.search(asked, None)
        expected = every.offsets[100 if ring else 0 : 300]
        common = len({*expected.tolist()} & {*found.offsets.tolist()})
        assert common >= 0.95 * len(expected)
        assert len(found.offsets) <= len(expected) + 2
        # top_k limits a range search too, to the best within the bounds.
        asked = VectorQuery(
            "v", metric, query[None], 20, {"nprobe": 64}, radius=radius, range_filter=inner
        )
        first = index.search(asked, None).offsets.tolist()
        assert len(first) == 20
        assert len({*first} & {*expected[:21].tolist()}) >= 18


@pytest.mark.parametrize("metric", DENSE_METRICS)
def test_the_interim_index_finds_what_its_codes_do_not_tell_apart(metric: MetricType) -> None:
    """Rows so much alike that they share codes, and rows unlike those that it was trained on."""
    random = np.random.default_rng(5)
    alike = random.standard_normal((4, 33)).repeat(3_000, axis=0)
    rows = np.concatenate([alike, 3 + random.standard_normal((6_000, 33))])
    rows = (rows + 0.01 * random.standard_normal(rows.shape)).astype(np.float32)
    blocks = [VectorBlock(0, prepare_queries(rows, metric))]
    interim = InterimIndex.train(blocks, metric, 12_000).extended(blocks, len(rows))
    queries = rows[::700] + 0.001
    query = VectorQuery("v", metric, queries, 10)
    found = search_unindexed(blocks, interim, query, len(rows), None).offsets.reshape(-1, 10)
    truth = exact_search(blocks, queries, metric, 10).offsets.reshape(-1, 10)
    common = [len({*f} & {*t}) for f, t in zip(found.tolist(), truth.tolist(), strict=True)]
    assert np.mean(common) >= 9.7


def test_the_interim_index_falls_back_where_scores_leave_the_range_of_numbers() -> None:
    rows = np.random.default_rng(6).standard_normal((9_000, 32)).astype(np.float32)
    rows[::2] *= np.float32(1e25)
    blocks = [VectorBlock(0, rows)]
    interim = InterimIndex.train(blocks, MetricType.L2, len(rows)).extended(blocks, len(rows))
    query = VectorQuery("v", MetricType.L2, rows[1:2], 5)
    found = search_unindexed(blocks, interim, query, len(rows), None)
    assert (
        found.offsets.tolist() == exact_search(blocks, rows[1:2], MetricType.L2, 5).offsets.tolist()
    )


@pytest.mark.usefixtures("walking")
@pytest.mark.parametrize("dim", [64, 128])
def test_codes_of_few_dimensions_tell_rows_apart(tmp_path: Path, dim: int) -> None:
    random = np.random.default_rng(3)
    mixing = random.standard_normal((24, dim))
    rows = random.standard_normal((10_050, 24)) @ mixing
    rows = (rows + random.standard_normal(rows.shape)).astype(np.float32)
    stored, queries = rows[:10_000], rows[10_000:]
    index = built(tmp_path, "DISKANN", MetricType.COSINE, stored, {"search_list_size": "60"})
    query = VectorQuery("v", MetricType.COSINE, queries, 10, {"search_list": 60})
    found = index.search(query).offsets.reshape(-1, 10)
    truth = exact_search(index.column.blocks(MetricType.COSINE), queries, MetricType.COSINE, 10)
    pairs = zip(found.tolist(), truth.offsets.reshape(-1, 10).tolist(), strict=True)
    assert sum(len({*a} & {*b}) for a, b in pairs) >= 0.95 * found.size
