"""Lists of vectors: scores are those of the definition, and an index finds the best."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from elanus.engine.filter.compile import compile_filter
from elanus.engine.index.files import build_index, open_index
from elanus.engine.index.kinds import stored_column
from elanus.engine.index.lists import index as list_index
from elanus.engine.index.lists.column import VectorListColumn
from elanus.engine.index.lists.max_sim import PIECE_VECTORS
from elanus.engine.index.rows import RowSet
from elanus.engine.segment.growing import GrowingSegment
from elanus.model.reads import Hits, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import BINARY_LIST_METRICS, DENSE_LIST_METRICS, DataType, MetricType
from elanus.model.vectors import ELEMENT_DTYPES, VectorLists, list_column, narrowed, widened

DIM = 16
KINDS = [
    *((DataType.FLOAT_VECTOR, metric) for metric in DENSE_LIST_METRICS),
    (DataType.FLOAT16_VECTOR, MetricType.MAX_SIM_IP),
    (DataType.BFLOAT16_VECTOR, MetricType.MAX_SIM_L2),
    (DataType.INT8_VECTOR, MetricType.MAX_SIM_COSINE),
    *((DataType.BINARY_VECTOR, metric) for metric in BINARY_LIST_METRICS),
]


def field_of(kind: DataType) -> FieldSchema:
    return FieldSchema(
        name="s[v]",
        struct="s",
        data_type=DataType.ARRAY_OF_VECTOR,
        element_type=kind,
        type_params={"dim": str(DIM), "max_capacity": "100"},
    )


def vectors_of_kind(kind: DataType, count: int, random: np.random.Generator) -> np.ndarray:
    if kind is DataType.BINARY_VECTOR:
        return random.integers(0, 256, (count, DIM // 8), np.uint8)
    if kind is DataType.INT8_VECTOR:
        return random.integers(-100, 100, (count, DIM)).astype(np.int8)
    floats = random.normal(size=(count, DIM)).astype(np.float32)
    return floats if kind is DataType.FLOAT_VECTOR else narrowed(floats, kind)


def lists_of(
    kind: DataType, rows: int, random: np.random.Generator, least: int = 0, most: int = 6
) -> Any:
    lengths = random.integers(least, most + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return list_column(offsets, vectors_of_kind(kind, int(offsets[-1]), random))


def queries_of(kind: DataType, random: np.random.Generator, *lengths: int) -> Any:
    vectors = vectors_of_kind(kind, sum(lengths), random)
    if kind is not DataType.BINARY_VECTOR:
        vectors = widened(vectors)
    return list_column(np.concatenate([[0], np.cumsum(lengths)]), vectors)


def similarity(metric: MetricType, q: np.ndarray, x: np.ndarray) -> float:
    if metric is MetricType.HAMMING:
        return -float(np.bitwise_count(q ^ x).sum())
    if metric is MetricType.JACCARD:
        union = float(np.bitwise_count(q | x).sum())
        return float(np.bitwise_count(q & x).sum()) / max(union, 1) - 1
    q, x = q.astype(np.float64), x.astype(np.float64)
    if metric is MetricType.L2:
        return -float(((q - x) ** 2).sum())
    return float(q @ x) / (1 if metric is MetricType.IP else np.linalg.norm(q) * np.linalg.norm(x))


def by_definition(metric: MetricType, query: np.ndarray, stored: Any) -> dict[int, float]:
    """The score of each row that has vectors."""
    lists = VectorLists.of(stored)
    sign = 1 if metric.larger_is_better else -1
    scores = {}
    for number in range(len(lists)):
        row = lists.row(number)
        row = row if row.dtype == np.uint8 else widened(row)
        if len(row):
            between = metric.of_vectors
            best = [max(similarity(between, q, x) for x in row) for q in query]
            scores[number] = sign * sum(best)
    return scores


def expect(metric: MetricType, found: dict[int, float], scores: dict[int, float], k: int) -> None:
    """``found``: offset → score, the best ``k`` of ``scores`` (ties may be others)."""
    best = sorted(scores.values(), reverse=metric.larger_is_better)[:k]
    assert sorted(found.values(), reverse=metric.larger_is_better) == pytest.approx(best, rel=1e-4)
    assert found == pytest.approx({row: scores[row] for row in found}, rel=1e-4)


@pytest.mark.parametrize(("kind", "metric"), KINDS)
def test_a_scan_finds_the_rows_whose_vectors_are_most_alike(
    kind: DataType, metric: MetricType
) -> None:
    random = np.random.default_rng(3)
    stored = lists_of(kind, 200, random)
    column = stored_column(field_of(kind), stored)
    queries = queries_of(kind, random, 5, 1)
    query = VectorQuery("s[v]", metric, queries, 10)
    for chosen in (None, RowSet(200, mask=random.random(200) < 0.3)):
        rows = column.with_vectors(chosen, 200)
        found = column.search(query, 200, rows, None)
        assert found.counts.tolist() == [10, 10]
        sign = 1 if metric.larger_is_better else -1
        for number in range(2):
            part = slice(10 * number, 10 * number + 10)
            scores = by_definition(metric, VectorLists.of(queries).row(number), stored)
            if chosen is not None:
                scores = {row: scores[row] for row in scores if chosen.mask[row]}
            similar = (sign * found.similarities[part]).tolist()
            hits = dict(zip(found.offsets[part].tolist(), similar, strict=True))
            expect(metric, hits, scores, 10)


def test_rows_longer_than_a_piece_count_as_one() -> None:
    random = np.random.default_rng(4)
    lengths = [PIECE_VECTORS + 7, 1, 2 * PIECE_VECTORS, 3]
    vectors = vectors_of_kind(DataType.FLOAT_VECTOR, sum(lengths), random)
    stored = list_column(np.concatenate([[0], np.cumsum(lengths)]), vectors)
    queries = queries_of(DataType.FLOAT_VECTOR, random, 3)
    column = stored_column(field_of(DataType.FLOAT_VECTOR), stored)
    found = column.search(VectorQuery("s[v]", MetricType.MAX_SIM_IP, queries, 4), 4, None, None)
    products = VectorLists.of(queries).vectors @ vectors.T
    offsets = [0, *np.cumsum(lengths)[:-1]]
    scores = np.maximum.reduceat(products, offsets, axis=1).sum(axis=0)
    assert found.offsets.tolist() == np.argsort(-scores).tolist()
    assert found.similarities == pytest.approx(np.sort(scores)[::-1], rel=1e-4)


def test_rows_are_taken_with_all_their_vectors() -> None:
    stored = lists_of(DataType.BFLOAT16_VECTOR, 50, np.random.default_rng(5))
    # Rows that begin in the middle of a larger column, as they come out of a message.
    column = stored_column(field_of(DataType.BFLOAT16_VECTOR), stored.slice(7))
    offsets = np.array([3, 40, 3, 0])
    assert column.take(offsets).to_pylist() == stored.take(offsets + 7).to_pylist()
    assert column.take(offsets[:0]).to_pylist() == []


def scores_by_key(hits: Hits) -> dict[int, float]:
    return dict(zip(hits.keys.tolist(), hits.scores.tolist(), strict=True))


@pytest.mark.parametrize("kind", [DataType.FLOAT_VECTOR, DataType.BINARY_VECTOR])
def test_a_growing_segment_sees_what_each_snapshot_may(kind: DataType) -> None:
    is_binary = kind is DataType.BINARY_VECTOR
    metric = MetricType.MAX_SIM_JACCARD if is_binary else MetricType.MAX_SIM
    schema = CollectionSchema(
        name="c",
        fields=(FieldSchema(name="pk", data_type=DataType.INT64, is_primary=True), field_of(kind)),
    )
    segment = GrowingSegment(schema, 1, 10)
    random = np.random.default_rng(6)
    parts = [lists_of(kind, size, random) for size in (3, 1, 1_500, 40)]
    rows: list[Any] = []
    queries = queries_of(kind, random, 4)
    query = VectorQuery("s[v]", metric, queries, 20)
    seen = []
    for ts, part in enumerate(parts, 1):
        keys = list(range(len(rows), len(rows) + len(part)))
        rows += part.to_pylist()
        batch = {"pk": keys, "s[v]": part}
        segment.append(pa.record_batch(batch, schema=schema.arrow), ts)
        seen.append(len(rows))
    whole = pa.chunked_array(parts).combine_chunks()
    scores = by_definition(metric, VectorLists.of(queries).row(0), whole)
    plan = compile_filter("pk >= 1000", schema)
    for ts, count in enumerate(seen, 1):
        hits = segment.search(query, Snapshot(ts), None)
        visible = {row: score for row, score in scores.items() if row < count}
        expect(
            metric, dict(zip(hits.keys.tolist(), hits.scores.tolist(), strict=True)), visible, 20
        )
    filtered = segment.search(query, Snapshot(9), plan)
    visible = {row: score for row, score in scores.items() if row >= 1_000}
    found = scores_by_key(filtered)
    expect(metric, found, visible, 20)
    taken = segment.take(np.array([1_540, 0, 3]), ["s[v]"]).column(0)
    assert taken.to_pylist() == [rows[1_540], rows[0], rows[3]]


INDEXES = [
    (DataType.FLOAT_VECTOR, "HNSW", {"M": "16", "efConstruction": "100"}),
    (DataType.INT8_VECTOR, "HNSW_SQ", {"M": "16", "efConstruction": "100", "sq_type": "sq8"}),
    (DataType.FLOAT16_VECTOR, "IVF_FLAT", {"nlist": "32"}),
    (DataType.BINARY_VECTOR, "BIN_IVF_FLAT", {"nlist": "16"}),
]


def built(
    folder: Path, kind: DataType, index_type: str, metric: MetricType, params: Any, stored: Any
) -> tuple[VectorListColumn, Any]:
    column = stored_column(field_of(kind), stored)
    assert isinstance(column, VectorListColumn)
    path = str(folder / "index")
    assert build_index(index_type, metric, params, stored, path) == len(stored)
    return column, open_index(path, index_type, metric, column.vector_count, DIM, params)


@pytest.mark.parametrize("share", [1.0, 0.2])
@pytest.mark.parametrize(("kind", "index_type", "params"), INDEXES)
def test_an_index_finds_what_a_scan_finds(
    kind: DataType,
    index_type: str,
    params: dict[str, str],
    share: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(list_index, "FOUND_VECTOR_COST", 0.0)  # of so few vectors a scan costs less
    is_binary = kind is DataType.BINARY_VECTOR
    metric = MetricType.MAX_SIM_HAMMING if is_binary else MetricType.MAX_SIM_COSINE
    random = np.random.default_rng(7)
    stored = lists_of(kind, 1_500, random)
    column, index = built(tmp_path, kind, index_type, metric, params, stored)
    rows = column.with_vectors(RowSet(1_500, mask=random.random(1_500) < share), 1_500)
    queries = queries_of(kind, random, *([3] * 20))
    query = VectorQuery("s[v]", metric, queries, 10, {"ef": 64, "nprobe": 16})
    found, best = index.search(column, query, rows), column.search(query, 1_500, rows, None)
    assert found.counts.tolist() == best.counts.tolist() == [10] * 20
    # Rows that score alike may stand for each other.
    worst = best.similarities.reshape(20, 10)[:, -1:]
    reached = found.similarities.reshape(20, 10) >= worst - 1e-4
    assert reached.mean() >= 0.97


def test_a_ratio_bounds_what_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_index, "FOUND_VECTOR_COST", 0.0)
    kind, index_type, params = INDEXES[0]
    random = np.random.default_rng(8)
    stored = lists_of(kind, 1_500, random)
    metric = MetricType.MAX_SIM_IP
    column, index = built(tmp_path, kind, index_type, metric, params, stored)
    rows = column.with_vectors(None, 1_500)
    asked: list[int] = []
    inner = index._vectors.search

    def noted(elements: Any, query: VectorQuery, members: Any) -> Any:
        asked.append(query.top_k)
        return inner(elements, query, members)

    monkeypatch.setattr(index._vectors, "search", noted)
    queries = queries_of(kind, random, 3)
    params = {"ef": 64, "retrieval_ann_ratio": 5.0}
    found = index.search(column, VectorQuery("s[v]", metric, queries, 10, params), rows)
    assert found.counts.tolist() == [10]
    assert asked == [50]


def test_an_index_over_rows_without_vectors_finds_nothing(tmp_path: Path) -> None:
    stored = lists_of(DataType.FLOAT_VECTOR, 5, np.random.default_rng(9), most=0)
    kind, index_type, params = INDEXES[0]
    column, index = built(tmp_path, kind, index_type, MetricType.MAX_SIM, params, stored)
    assert (index.row_count, index.dim) == (0, DIM)
    queries = queries_of(DataType.FLOAT_VECTOR, np.random.default_rng(1), 2)
    query = VectorQuery("s[v]", MetricType.MAX_SIM, queries, 3)
    rows = column.with_vectors(None, 5)
    assert index.search(column, query, rows).counts.tolist() == [0]


def test_elements_have_the_dtype_of_their_kind() -> None:
    for kind, dtype in ELEMENT_DTYPES.items():
        stored = lists_of(kind, 3, np.random.default_rng(2), least=1)
        assert VectorLists.of(stored).vectors.dtype == dtype
