"""Whatever roles say to each other arrives as it was said."""

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tests.unit.engine.filter.sample import COLUMNS, SCHEMA, texts
from tests.unit.engine.filter.test_elements import ELEMENTS
from tests.unit.engine.filter.test_elements import ROWS as ELEMENT_ROWS
from tests.unit.engine.filter.test_examples import ROWS

import elanus.errors
from elanus.engine.filter import compile_filter, evaluate
from elanus.engine.filter.evaluate import evaluate_elements
from elanus.engine.filter.plan import Plan
from elanus.errors import ElanusError, FilterError
from elanus.model.reads import Grouping, Hits, VectorQuery
from elanus.model.types import DataType, MetricType
from elanus.model.vectors import concat_vectors, sparse_column
from elanus.services.interfaces import (
    CoordinatorService,
    DataNodeService,
    QueryNodeService,
    StreamingService,
)
from elanus.services.messages import (
    FetchRows,
    PartitionRows,
    PrimaryKeys,
    SearchRequest,
    SegmentHits,
    WriteRequest,
)
from elanus.services.rpc.codec import BARE, BATCHES, decode, encode
from elanus.services.rpc.failures import Failure, error_of, failure_of
from elanus.services.rpc.methods import methods_of
from elanus.services.rpc.server import RpcServices


@pytest.mark.parametrize(("text", "ids"), ROWS + ELEMENT_ROWS)
def test_a_plan_selects_the_same_rows_after_its_journey(text: str, ids: list[int]) -> None:
    plan = compile_filter(text, SCHEMA)
    arrived = decode(encode(plan), Plan)
    found = evaluate(arrived, COLUMNS.__getitem__, 4, texts=texts)
    assert [n + 1 for n, passes in enumerate(found) if passes] == ids
    assert (arrived.key, arrived.fields, arrived.primary_keys) == (
        plan.key,
        plan.fields,
        plan.primary_keys,
    )
    assert arrived.root.key == plan.root.key


@pytest.mark.parametrize(("text", "_"), ELEMENTS)
def test_an_element_filter_means_the_same_after_its_journey(text: str, _: Any) -> None:
    plan = compile_filter(text, SCHEMA)
    arrived = decode(encode(plan), Plan)
    assert arrived.elements is not None
    assert arrived.elements.key == plan.elements.key
    found = evaluate_elements(arrived.elements, COLUMNS.__getitem__, 4)
    expected = evaluate_elements(plan.elements, COLUMNS.__getitem__, 4)
    assert found.tolist() == expected.tolist()


def test_long_lists_and_templates_travel_as_columns() -> None:
    keys = np.arange(0, 10_000, 3, dtype=np.int64)
    words = [f"w{number:05}" for number in range(3_000)]
    for text, values in (("id in {k}", keys), ("s in {k}", words), ('j["k"] in {k}', words)):
        plan = compile_filter(text, SCHEMA, {"k": values})
        arrived = decode(encode(plan), Plan)
        assert arrived.root.key == plan.root.key == plan.key
        assert list(evaluate(arrived, COLUMNS.__getitem__, 4)) == list(
            evaluate(plan, COLUMNS.__getitem__, 4)
        )


def test_a_search_and_its_hits_arrive_whole() -> None:
    request = SearchRequest(
        collection_id=7,
        vchannel="p_7v0",
        query=VectorQuery(
            "vector",
            MetricType.COSINE,
            np.random.default_rng(1).random((3, 8), np.float32),
            10,
            {"ef": 64, "ratio": 0.5, "kind": "x"},
            radius=0.25,
        ),
        guarantee_ts=2**62,
        plan=compile_filter("i > 0 and s like 'r%'", SCHEMA),
        partition_ids=(1, 2),
        deadline_s=1.5,
    )
    arrived = decode(encode(request), SearchRequest)
    np.testing.assert_array_equal(arrived.query.vectors, request.query.vectors)
    assert arrived.query.vectors.flags.c_contiguous
    assert arrived.query.vectors.flags.aligned
    assert msgspec.structs.asdict(arrived.plan.root.children[0].column)["name"] == "i"
    assert (arrived.guarantee_ts, arrived.partition_ids) == (2**62, (1, 2))
    hits = Hits(
        counts=np.array([2, 0], np.int64),
        scores=np.array([0.5, np.inf], np.float32),
        keys=pa.array(["é", "\U0001f600"]),
        timestamps=np.array([2**63, 5], np.uint64),
        sources=np.array([-1, 3]),
        offsets=np.array([], np.int64),
    )
    back = decode(encode(hits), Hits)
    assert back.keys.equals(hits.keys)
    for name in ("counts", "scores", "timestamps", "sources", "offsets"):
        np.testing.assert_array_equal(getattr(back, name), getattr(hits, name))
        assert getattr(back, name).dtype == getattr(hits, name).dtype


def test_a_write_arrives_with_its_columns() -> None:
    rows = pa.record_batch(
        {
            "id": pa.array([1, 2, 3]),
            "tags": pa.array([["a"], None, []]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype="f4")), 2),
        }
    )
    request = WriteRequest(
        vchannel="p_7v0",
        collection_id=7,
        schema_version=3,
        inserts=(PartitionRows(5, rows.slice(1, 2)),),
        deletes=(PrimaryKeys(pa.array(["x"]), -1),),
    )
    arrived = decode(encode(request), WriteRequest)
    assert arrived.inserts[0].rows.equals(rows.slice(1, 2))
    assert arrived.inserts[0].rows.schema == rows.schema
    assert arrived.deletes[0].keys.to_pylist() == ["x"]


def test_fields_may_be_newer_or_older_than_the_receiver() -> None:
    class Old(msgspec.Struct):
        name: str
        gone: int = 4

    class New(msgspec.Struct):
        name: str
        fresh: tuple[str, ...] = ("default",)

    assert decode(encode(New(name="a", fresh=("b",))), Old) == Old(name="a")
    assert decode(encode(Old(name="a", gone=9)), New) == New(name="a")


@pytest.mark.parametrize(
    "vectors",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6, dtype=np.uint8).reshape(3, 2),
        sparse_column([0, 2, 2], np.uint32([1, 9]), np.float32([0.5, 2])),
    ],
    ids=["dense", "binary", "sparse"],
)
def test_query_vectors_of_every_kind_travel(vectors: Any) -> None:
    query = VectorQuery("v", MetricType.IP, vectors, 10)
    arrived = decode(encode(query), VectorQuery)
    assert type(arrived.vectors) is type(vectors)
    assert arrived.vectors.tolist() == vectors.tolist()
    together = concat_vectors([arrived.vectors, vectors])
    assert len(together) == 2 * len(vectors)


def test_what_cannot_travel_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="object"):
        encode({"a": object()})


@pytest.mark.parametrize(
    "kind",
    [
        found
        for found in vars(elanus.errors).values()
        if isinstance(found, type) and issubclass(found, ElanusError)
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_error_arrives_as_itself(kind: type[ElanusError]) -> None:
    error = kind.__new__(kind)
    ElanusError.__init__(error, "what went wrong[key=value]")
    arrived = error_of(decode(encode(failure_of(error)), Failure))
    assert type(arrived) is kind
    assert (arrived.message, str(arrived)) == ("what went wrong[key=value]",) * 2
    assert (arrived.code, arrived.retriable) == (kind.code, kind.retriable)


def test_an_error_keeps_its_details_and_an_unknown_one_becomes_its_base() -> None:
    arrived = error_of(decode(encode(failure_of(FilterError("bad", position=7))), Failure))
    assert isinstance(arrived, FilterError)
    assert arrived.position == 7
    unknown = Failure(kind=("OfTheFuture", "Unavailable", "ElanusError"), message="later")
    assert type(error_of(unknown)) is elanus.errors.Unavailable


@pytest.mark.parametrize(
    "interface", [CoordinatorService, StreamingService, QueryNodeService, DataNodeService]
)
def test_every_method_of_a_role_can_be_bound(interface: type) -> None:
    methods = methods_of(interface)
    assert len(methods) >= 3
    for method in methods.values():
        msgspec.msgpack.Decoder(method.request, dec_hook=lambda kind, value: value)
        msgspec.msgpack.Decoder(method.answer, dec_hook=lambda kind, value: value)


def test_groups_travel_with_the_question_and_the_answer() -> None:
    grouping = Grouping(
        "meta",
        size=3,
        path=("a", "0"),
        cast=DataType.VARCHAR,
        within=pa.array(["x", None, "y"]),
        within_counts=np.array([2, 1]),
    )
    query = VectorQuery("v", MetricType.IP, np.ones((2, 3), np.float32), 10, grouping=grouping)
    arrived = decode(encode(query), VectorQuery).grouping
    assert arrived is not None
    assert arrived.within.to_pylist() == ["x", None, "y"]
    assert arrived.within_counts.tolist() == [2, 1]
    assert (arrived.path, arrived.cast, arrived.size) == (("a", "0"), DataType.VARCHAR, 3)
    none = np.empty(0, np.int64)
    groups = pa.array([1, None], pa.int8())
    hits = SegmentHits(none, none.astype(np.float32), none, none, none, none, groups)
    back = decode(encode(hits), SegmentHits)
    assert back.groups.equals(groups)
    assert back.rows is None


def test_places_of_elements_travel_with_the_hits() -> None:
    ones = np.ones(2, np.int64)
    scores = np.zeros(2, np.float32)
    hits = SegmentHits(ones, scores, ones, ones.astype(np.uint64), ones, ones, elements=ones * 3)
    arrived = decode(encode(hits), SegmentHits)
    assert arrived.elements.tolist() == [3, 3]
    assert arrived.elements.dtype == np.int64


COLUMNS_SENT = [
    pa.record_batch(
        {
            "word": pa.array(["a", None, "c"]),
            "vector": pa.array([[1.0], [2.0], None], pa.list_(pa.float32())),
        }
    ).slice(1),
    pa.record_batch({"word": pa.array(["a", "b", "a"]).dictionary_encode()}),
    pa.record_batch({"word": pa.array([], pa.string())}),
    pa.array(["x", None]),
    pa.array(["x", "y", "x"]).dictionary_encode(),
]


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("sent", COLUMNS_SENT)
def test_columns_travel_in_either_form(sent: Any, bare: bool) -> None:
    kind = pa.RecordBatch if isinstance(sent, pa.RecordBatch) else pa.Array
    arrived = decode(encode(sent, bare=bare), kind)
    assert arrived.equals(sent)
    if kind is pa.RecordBatch:
        assert arrived.schema == sent.schema


async def test_only_who_knows_bare_batches_gets_them() -> None:
    class Node:
        async def fetch(self, request: Any) -> pa.RecordBatch:
            return COLUMNS_SENT[0]

        def __getattr__(self, name: str) -> Any:
            return None

    services = RpcServices()
    services.add(QueryNodeService, Node())
    none = np.empty(0, np.int64)
    body = encode(methods_of(QueryNodeService)["fetch"].bind((FetchRows(none, none, ()),), {}))
    path = methods_of(QueryNodeService)["fetch"].path
    older = await services.handle(path, {}, body, None)
    newer = await services.handle(path, {BATCHES: BARE}, body, None)
    assert older[1:] == encode(COLUMNS_SENT[0])
    assert newer[1:] == encode(COLUMNS_SENT[0], bare=True) != older[1:]
