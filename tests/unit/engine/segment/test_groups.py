"""Searches for groups, and what becomes of rows that score the same: against sorting every row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.engine.index.dense_indexes import PARAMS, SEARCH_PARAMS
from tests.unit.engine.segment.reference import ArrowColumns

from elanus.engine import strategy
from elanus.engine.groups import group_by_group, merge_found, standings
from elanus.engine.index.files import build_index, open_index
from elanus.engine.segment.base import Segment
from elanus.engine.segment.group_values import group_values
from elanus.engine.segment.growing import GrowingSegment
from elanus.engine.segment.sealed import SealedSegment
from elanus.errors import Rejected
from elanus.model.reads import Grouping, Hits, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType, MetricType
from elanus.model.vectors import sparse_column, vector_column

NOW = Snapshot(1_000)


def schema_of(key: DataType, dim: int) -> CollectionSchema:
    fields = (
        FieldSchema(name="pk", data_type=key, is_primary=True, type_params={"max_length": "9"}),
        FieldSchema(name="group", data_type=DataType.INT16, nullable=True),
        FieldSchema(name="meta", data_type=DataType.JSON),
        FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(dim)}),
    )
    return CollectionSchema(name="things", fields=fields)


class Rows:
    """Rows whose keys come in no order. ``segments``: one that grows, or its sealed copy."""

    def __init__(self, keys: list[int], groups: list[int | None], vectors: np.ndarray) -> None:
        self.keys, self.groups, self.vectors = keys, groups, vectors.astype(np.float32)

    def segment(self, number: int, *, sealed: bool, strings: bool = False) -> Segment:
        kind = DataType.VARCHAR if strings else DataType.INT64
        schema = schema_of(kind, self.vectors.shape[1])
        growing = GrowingSegment(schema, number, 10)
        keys: Any = [f"{key:05}" for key in self.keys] if strings else self.keys
        meta = [json.dumps({} if group is None else {"g": group}).encode() for group in self.groups]
        columns = [
            pa.array(keys),
            pa.array(self.groups, pa.int16()),
            pa.array(meta, pa.binary()),
            vector_column(self.vectors),
        ]
        growing.append(pa.RecordBatch.from_arrays(columns, schema=schema.arrow), 1)
        if not sealed:
            return growing
        flushed = growing.rows_for_flush()
        return SealedSegment(schema, number, 10, ArrowColumns(flushed.rows, flushed.timestamps))

    def ranked(self, query: np.ndarray) -> list[tuple[float, int, int | None]]:
        """(distance, key, group), the best first."""
        distances = ((self.vectors - query) ** 2).sum(axis=1)
        return sorted(
            zip(distances.tolist(), self.keys, self.groups, strict=True), key=lambda row: row[:2]
        )


def best_groups(
    ranked: list[tuple[float, int, int | None]], top_k: int, size: int
) -> dict[int | None, list[int]]:
    """Keys by group, the best groups first."""
    found: dict[int | None, list[int]] = {}
    for _, key, group in ranked:
        if group in found or len(found) < top_k:
            found.setdefault(group, []).append(key)
    return {group: keys[:size] for group, keys in found.items()}


def by_group(hits: Hits) -> list[dict[int | None, list[int]]]:
    """For each query its keys by group, in the order of the hits."""
    answer = []
    ends = np.cumsum(hits.counts)
    for end, count in zip(ends.tolist(), hits.counts.tolist(), strict=True):
        found: dict[int | None, list[int]] = {}
        for at in range(end - count, end):
            found.setdefault(hits.groups[at].as_py(), []).append(int(str(hits.keys[at])))
        answer.append(found)
    return answer


def query_for(vectors: np.ndarray, top_k: int, size: int, **options: Any) -> VectorQuery:
    grouping = Grouping(**{"field_name": "group", "size": size, **options})
    return VectorQuery("v", MetricType.L2, vectors.astype(np.float32), top_k, grouping=grouping)


def named(query: VectorQuery, hits: Hits) -> VectorQuery:
    """The second question: all rows of the groups that the first has found."""
    if not len(hits.scores):
        return query
    firsts = np.flatnonzero(standings(hits.counts, hits.groups)[1] == 0)
    queries = np.repeat(np.arange(len(hits.counts)), hits.counts)
    counts = np.bincount(queries[firsts], minlength=len(hits.counts))
    assert query.grouping is not None
    within = hits.groups.take(pa.array(firsts))
    return replace(query, grouping=replace(query.grouping, within=within, within_counts=counts))


group_numbers = st.one_of(st.none(), st.integers(0, 12), st.just(0))


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(group_numbers, min_size=1, max_size=120),
    parts=st.integers(1, 3),
    seed=st.integers(0, 10**6),
    top_k=st.integers(1, 9),
    size=st.integers(1, 4),
    nq=st.integers(1, 5),
    sealed=st.booleans(),
    strings=st.booleans(),
    in_documents=st.booleans(),
)
def test_groups_are_those_of_all_rows_sorted(
    groups: list[int | None],
    parts: int,
    seed: int,
    top_k: int,
    size: int,
    nq: int,
    sealed: bool,
    strings: bool,
    in_documents: bool,
) -> None:
    random = np.random.default_rng(seed)
    # Few distinct vectors: most scores tie.
    vectors = random.integers(0, 3, (len(groups), 3))
    every = Rows(random.permutation(len(groups)).tolist(), groups, vectors)
    source: dict[str, Any] = {}
    if in_documents:
        source = {"field_name": "meta", "path": ("g",), "cast": DataType.INT64}
    asked = random.integers(0, 3, (nq, 3))
    query = query_for(asked, top_k, size, **source)
    segments = [
        Rows(every.keys[part::parts], groups[part::parts], every.vectors[part::parts]).segment(
            part + 1, sealed=sealed, strings=strings
        )
        for part in range(min(parts, len(groups)))
    ]

    def answer(to: VectorQuery) -> Hits:
        return merge_found([segment.search(to, NOW, None) for segment in segments], to)

    first = answer(query)
    expected = [best_groups(every.ranked(asked[number]), top_k, size) for number in range(nq)]
    for found, wanted in zip(by_group(first), expected, strict=True):
        assert list(found) == list(wanted)
        assert [keys[0] for keys in found.values()] == [keys[0] for keys in wanted.values()]
        assert all(len(keys) <= size for keys in found.values())
    filled, _ = group_by_group(answer(named(query, first)), 0)
    assert [list(found.items()) for found in by_group(filled)] == [
        list(wanted.items()) for wanted in expected
    ]
    later, _ = group_by_group(filled, 2)
    assert by_group(later) == [dict(list(wanted.items())[2:]) for wanted in expected]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 150),
    nq=st.integers(1, 5),
    page=st.integers(1, 7),
    sealed=st.booleans(),
    strings=st.booleans(),
)
def test_pages_of_rows_that_tie_give_every_row_once(
    seed: int, rows: int, nq: int, page: int, sealed: bool, strings: bool
) -> None:
    random = np.random.default_rng(seed)
    vectors = random.integers(0, 2, (rows, 2))
    every = Rows(random.permutation(rows).tolist(), [None] * rows, vectors)
    segment = every.segment(1, sealed=sealed, strings=strings)
    asked = random.integers(0, 2, (nq, 2))
    for end in range(page, rows + page, page):
        query = VectorQuery("v", MetricType.L2, asked.astype(np.float32), end)
        hits = segment.search(query, NOW, None)
        keys = [int(str(key)) for key in hits.keys]
        expected = [key for each in asked for _, key, _ in every.ranked(each)[:end]]
        assert keys == expected


@pytest.mark.parametrize("index_type", ["HNSW", "IVF_FLAT", "IVF_SQ8", "SCANN"])
def test_an_index_gives_rows_that_tie_by_key(
    index_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "exact_cost", lambda *_: float("inf"))
    random = np.random.default_rng(4)
    distinct = random.standard_normal((40, 16)).astype(np.float32)
    vectors = distinct[random.integers(0, 40, 1_200)]
    every = Rows(random.permutation(1_200).tolist(), [None] * 1_200, vectors)
    segment = indexed(every, index_type, tmp_path)
    asked = distinct[:3] + 0.01
    for end in (5, 10, 15, 20):
        query = VectorQuery("v", MetricType.L2, asked, end, SEARCH_PARAMS)
        hits = segment.search(query, NOW, None)
        expected = [key for each in asked for _, key, _ in every.ranked(each)[:end]]
        assert hits.keys.tolist() == expected


def indexed(rows: Rows, index_type: str, folder: Path) -> SealedSegment:
    sealed = rows.segment(1, sealed=True)
    assert isinstance(sealed, SealedSegment)
    every = np.arange(len(rows.keys))
    vectors = np.stack(sealed.take(every, ["v"]).column(0).to_numpy(zero_copy_only=False))
    path, params = str(folder / index_type), PARAMS[index_type]
    build_index(index_type, MetricType.L2, params, np.ascontiguousarray(vectors), path)
    opened = open_index(path, index_type, MetricType.L2, len(vectors), vectors.shape[1], params)
    sealed.attach_index("v", opened)
    return sealed


SPREADS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "alike": lambda order: order % 200,
    "the nearest rows are of one group": lambda order: np.where(order < 3_000, 0, order % 200),
    "few": lambda order: order % 3,
}
"""The group of a row by its rank for the query."""


@pytest.mark.parametrize("index_type", ["HNSW", "IVF_FLAT", "SCANN"])
@pytest.mark.parametrize("spread", SPREADS)
def test_an_index_finds_groups_as_well_as_rows(
    index_type: str, spread: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "exact_cost", lambda *_: float("inf"))
    random = np.random.default_rng(5)
    vectors = random.standard_normal((4_000, 16)).astype(np.float32)
    found = wanted = 0
    asked = random.standard_normal((1, 16)).astype(np.float32)
    order = np.argsort(np.argsort(((vectors - asked) ** 2).sum(axis=1)))
    groups = SPREADS[spread](order).tolist()
    every = Rows(random.permutation(4_000).tolist(), groups, vectors)
    segment = indexed(every, index_type, tmp_path)
    query = replace(query_for(asked, 20, 3), params=SEARCH_PARAMS)
    first = segment.search(query, NOW, None)
    expected = best_groups(every.ranked(asked[0]), 20, 3)
    assert len(by_group(first)[0]) == len(expected)
    filled = by_group(segment.search(named(query, first), NOW, None))[0]
    for group, keys in expected.items():
        wanted += len(keys)
        found += len(set(keys) & set(filled.get(group, [])))
    assert found >= 0.95 * wanted


DOCUMENTS = [b'{"a": {"b": 1}}', b'{"a": {"b": true}}', b'{"a": {"b": "x"}}', b'{"a": 300}', None]


def test_values_of_documents_are_read_as_one_type_or_as_text() -> None:
    def read(path: tuple[str, ...], cast: DataType | None, strict: bool = False) -> list[Any]:
        grouping = Grouping("meta", path=path, cast=cast, strict_cast=strict)
        return group_values(pa.array(DOCUMENTS, pa.binary()), grouping).to_pylist()

    assert read(("a", "b"), DataType.INT64) == [1, None, None, None, None]
    assert read(("a", "b"), DataType.BOOL) == [None, True, None, None, None]
    assert read(("a", "b"), DataType.VARCHAR) == [None, None, "x", None, None]
    assert read(("a", "b"), None) == ["1", "true", "x", None, None]
    assert read(("a",), None)[0] == '{"b":1}'
    assert read(("a",), DataType.INT8)[3] == 300 - 256
    with pytest.raises(Rejected, match="failed to cast json value to int64_t, wrong json data"):
        read(("a", "b"), DataType.INT64, strict=True)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 80),
    top_k=st.integers(1, 6),
    size=st.integers(1, 3),
    sealed=st.booleans(),
)
def test_rows_of_sparse_vectors_group_if_they_share_something_with_the_query(
    seed: int, rows: int, top_k: int, size: int, sealed: bool
) -> None:
    random = np.random.default_rng(seed)
    fields = (
        FieldSchema(name="pk", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="group", data_type=DataType.BOOL),
        FieldSchema(name="v", data_type=DataType.SPARSE_FLOAT_VECTOR),
    )
    schema = CollectionSchema(name="things", fields=fields)
    keys = random.permutation(rows)
    groups = random.random(rows) < 0.8
    indices = random.integers(0, 5, rows).astype(np.uint32)
    values = random.integers(1, 3, rows).astype(np.float32)
    growing = GrowingSegment(schema, 1, 10)
    columns = [
        pa.array(keys),
        pa.array(groups),
        sparse_column(np.arange(rows + 1), indices, values),
    ]
    growing.append(pa.RecordBatch.from_arrays(columns, schema=schema.arrow), 1)
    flushed = growing.rows_for_flush()
    segment: Segment = growing
    if sealed:
        segment = SealedSegment(schema, 1, 10, SparseColumns(flushed.rows, flushed.timestamps))
    asked = sparse_column([0, 2, 2], np.uint32([1, 3]), np.float32([1, 2]))
    grouping = Grouping("group", size)
    query = VectorQuery("v", MetricType.IP, asked, top_k, grouping=grouping)
    scores = values * (indices == 1) + 2 * values * (indices == 3)
    ranked = sorted(
        (-score, key, group)
        for score, key, group in zip(scores.tolist(), keys.tolist(), groups.tolist(), strict=True)
        if score > 0
    )
    first = segment.search(query, NOW, None)
    second = segment.search(named(query, first), NOW, None)
    assert by_group(first)[0].keys() == best_groups(ranked, top_k, size).keys()
    if len(first.scores):
        assert by_group(second) == [best_groups(ranked, top_k, size), {}]


class SparseColumns(ArrowColumns):
    def vectors(self, name: str) -> Any:
        return self.rows.column(name)
