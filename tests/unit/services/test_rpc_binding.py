"""A role behind the RPC binding behaves as the role itself, and unreachable ones say so."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import h2corn
import numpy as np
import pyarrow as pa
import pytest

from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.errors import (
    CollectionNotFound,
    DeadlineExceeded,
    FencedWriter,
    InternalError,
    NotServed,
    Unavailable,
)
from elanus.model.reads import Snapshot, VectorQuery
from elanus.model.types import MetricType
from elanus.runtime.executor import ThreadExecutor
from elanus.services.interfaces import QueryNodeService, StreamingService, TimestampOracle
from elanus.services.messages import (
    AskTerms,
    FetchRows,
    FlushTicket,
    QueryRequest,
    SegmentQuery,
    SegmentRows,
    SegmentSearch,
)
from elanus.services.rpc.client import Peer, stub
from elanus.services.rpc.server import RpcServices
from elanus.transport.base import TransportOptions, no_rest
from elanus.transport.h2corn_server import H2cornServer
from elanus.transport.http2.server import Http2Server


class Node:
    """A query node and a streaming node that answer from the request alone."""

    def __init__(self) -> None:
        self.released: list[tuple[int, ...]] = []
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()

    async def release_segments(self, segment_ids: tuple[int, ...]) -> None:
        if not segment_ids:
            raise ValueError("a defect")
        self.released.append(segment_ids)

    async def query(self, request: SegmentQuery) -> SegmentRows:
        return SegmentRows(count=len(request.segment_ids) + request.snapshot.read_ts, rows=None)

    async def term_statistics(self, request: AskTerms) -> TermStatistics:
        return TermStatistics(7, 2.5, request.terms.astype(np.int64) * len(request.segment_ids))

    async def fetch(self, request: FetchRows) -> pa.RecordBatch:
        return pa.record_batch({name: pa.array(request.offsets) for name in request.fields})

    async def apply_deletes(self, *arguments: Any) -> None:
        raise CollectionNotFound("default", "books")

    async def mark_segments(self, *arguments: Any) -> None: ...

    async def load_segment(self, request: Any) -> None: ...

    async def list_segments(self) -> Any:
        return []

    async def search(self, request: Any) -> Any:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


class Owner:
    async def seal(self, vchannel: str) -> FlushTicket:
        return FlushTicket(vchannel, (1, 2), 2**61)

    async def open_pchannel(self, pchannel: str, term: int) -> None:
        raise FencedWriter(f"{pchannel} is open at term {term + 1}, not {term}")

    async def query(self, request: QueryRequest) -> Any:
        await asyncio.Event().wait()

    def __getattr__(self, name: str) -> Any:
        return getattr(Node(), name, None)


@pytest.fixture
async def node() -> Node:
    return Node()


@pytest.fixture
async def server(node: Node) -> AsyncIterator[Http2Server]:
    services = RpcServices()
    services.add(QueryNodeService, node)
    services.add(StreamingService, Owner())
    server = Http2Server(services.handle, TransportOptions(port=0))
    await server.start()
    yield server
    await server.stop(1.0)


@pytest.fixture
async def peer(server: Http2Server) -> AsyncIterator[Peer]:
    host, port = server.address
    peer = Peer(f"{host}:{port}")
    yield peer
    await peer.close()


async def test_calls_bring_values_and_columns_back(peer: Peer, node: Node) -> None:
    query = stub(QueryNodeService, peer)
    assert await query.query(SegmentQuery((1, 2, 3), Snapshot(2**62))) == SegmentRows(
        2**62 + 3, None
    )
    rows = await query.fetch(FetchRows(np.array([1]), np.array([7]), ("a", "b")))
    assert rows.to_pydict() == {"a": [7], "b": [7]}
    terms = await query.term_statistics(AskTerms((1, 2), "text", np.array([3, 4], np.uint32)))
    assert (terms.rows, terms.tokens, terms.rows_with.tolist()) == (7, 2.5, [6, 8])
    await query.release_segments(segment_ids=(4, 5))
    assert node.released == [(4, 5)]
    assert await stub(StreamingService, peer).seal("v") == FlushTicket("v", (1, 2), 2**61)


async def test_many_calls_at_once_keep_apart(peer: Peer) -> None:
    query = stub(QueryNodeService, peer)
    answers = await asyncio.gather(
        *(query.query(SegmentQuery((), Snapshot(number))) for number in range(200))
    )
    assert [answer.count for answer in answers] == list(range(200))


async def test_errors_come_back_as_they_were_raised(peer: Peer) -> None:
    with pytest.raises(CollectionNotFound, match=r"collection=books"):
        await stub(QueryNodeService, peer).apply_deletes((1,), (), 5)
    with pytest.raises(FencedWriter, match="term 8, not 7"):
        await stub(StreamingService, peer).open_pchannel("p", 7)


async def test_a_defect_is_an_internal_error_with_its_cause(peer: Peer) -> None:
    with pytest.raises(InternalError, match="ValueError: a defect"):
        await stub(QueryNodeService, peer).release_segments(())


async def test_a_role_that_is_not_here_is_told(peer: Peer) -> None:
    with pytest.raises(NotServed, match="not served by this process"):
        await stub(TimestampOracle, peer).allocate_ids(3)


async def test_wrong_arguments_fail_at_the_caller(peer: Peer) -> None:
    with pytest.raises(InternalError, match=r"request to .*load_segment can't be read"):
        await stub(QueryNodeService, peer).load_segment(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await stub(QueryNodeService, peer).release_segments()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        await stub(QueryNodeService, peer).nothing()  # type: ignore[attr-defined]


async def test_a_cancelled_caller_cancels_the_call(peer: Peer, node: Node) -> None:
    query = stub(QueryNodeService, peer, {"search": 60.0})
    vectors = VectorQuery("v", MetricType.L2, np.zeros((1, 2), np.float32), 1)
    call = asyncio.create_task(query.search(SegmentSearch((1,), vectors, Snapshot(1))))
    await node.entered.wait()
    call.cancel()
    async with asyncio.timeout(10):
        await node.cancelled.wait()


async def test_a_request_is_bound_by_its_deadline(peer: Peer) -> None:
    request = QueryRequest(collection_id=1, vchannel="v", guarantee_ts=1, deadline_s=0.05)
    with pytest.raises(DeadlineExceeded, match="query"):
        await stub(StreamingService, peer).query(request)


async def test_an_unreachable_peer_is_unavailable_by_its_address(
    peer: Peer, server: Http2Server
) -> None:
    query = stub(QueryNodeService, peer)
    await query.release_segments((1,))
    await server.stop(0.0)
    with pytest.raises(Unavailable, match=peer.address):
        await query.release_segments((2,))


async def test_without_a_connection_nothing_was_done(peer: Peer, server: Http2Server) -> None:
    query = stub(QueryNodeService, peer)
    await server.stop(0.0)
    async with asyncio.timeout(30):
        while True:
            # The first call may still meet the connection that is just ending.
            with pytest.raises(Unavailable) as raised:
                await query.release_segments((2,))
            if raised.type is NotServed:
                break


async def test_a_peer_that_is_given_up_fails_its_calls_and_cancels_nobody(
    peer: Peer, node: Node
) -> None:
    query = stub(QueryNodeService, peer, {"search": 60.0})
    vectors = VectorQuery("v", MetricType.L2, np.zeros((1, 2), np.float32), 1)
    call = asyncio.create_task(query.search(SegmentSearch((1,), vectors, Snapshot(1))))
    await node.entered.wait()
    await peer.close()
    with pytest.raises(Unavailable, match="given up"):
        await call
    with pytest.raises(NotServed):
        await query.release_segments((1,))


async def test_a_time_limit_that_nobody_asked_for_is_unavailable(peer: Peer) -> None:
    vectors = VectorQuery("v", MetricType.L2, np.zeros((1, 2), np.float32), 1)
    query = stub(QueryNodeService, peer, {"search": 0.05})
    with pytest.raises(Unavailable, match="no answer in time"):
        await query.search(SegmentSearch((1,), vectors, Snapshot(1)))


async def test_a_guard_refuses_before_the_call_and_withholds_the_answer_after_it() -> None:
    valid = True

    class Oracle:
        async def allocate_timestamps(self, count: int = 1) -> int:
            nonlocal valid
            valid = False
            return count

        allocate_ids = allocate_timestamps

    def guard() -> None:
        if not valid:
            raise Unavailable("lost")

    services = RpcServices()
    services.add(TimestampOracle, Oracle(), guard)

    class Direct:
        address = "here"

        async def call(self, path: str, body: bytes, timeout_s: float) -> bytes:
            return await services.handle(path, {}, body, timeout_s)

    oracle = stub(TimestampOracle, Direct())  # type: ignore[arg-type]
    with pytest.raises(Unavailable) as during:
        await oracle.allocate_timestamps(1)
    assert during.type is Unavailable
    with pytest.raises(NotServed):
        await oracle.allocate_timestamps(1)


async def test_what_can_not_be_confirmed_is_refused_before_the_call() -> None:
    asked: list[int] = []

    class Oracle:
        async def allocate_timestamps(self, count: int = 1) -> int:
            asked.append(count)
            return count

        allocate_ids = allocate_timestamps

    async def confirm() -> None:
        await asyncio.sleep(0)
        if asked:
            raise Unavailable("others may have taken over")

    services = RpcServices()
    services.add(TimestampOracle, Oracle(), confirm=confirm)

    class Direct:
        address = "here"

        async def call(self, path: str, body: bytes, timeout_s: float) -> bytes:
            return await services.handle(path, {}, body, timeout_s)

    oracle = stub(TimestampOracle, Direct())  # type: ignore[arg-type]
    assert await oracle.allocate_timestamps(1) == 1
    with pytest.raises(NotServed):
        await oracle.allocate_timestamps(2)
    assert asked == [1]


async def test_calls_may_take_longer_than_any_limit_of_the_transport(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, limit_s = h2corn.Config, 0.5
    names = ("timeout_request_header", "timeout_request_body_idle")
    names += ("h2_timeout_write", "h2_timeout_response_stall")
    limits = dict.fromkeys(names, limit_s)
    monkeypatch.setattr(h2corn, "Config", lambda **given: real(**{**given, **limits}))

    class Oracle:
        async def allocate_timestamps(self, count: int = 1) -> int:
            await asyncio.sleep(5 * limit_s)
            return count

        allocate_ids = allocate_timestamps

    services = RpcServices()
    services.add(TimestampOracle, Oracle())
    executor = ThreadExecutor(cores=1)
    server = H2cornServer(services.handle, no_rest, TransportOptions(port=0), executor)
    await server.start()
    host, port = server.address
    peer = Peer(f"{host}:{port}")
    assert await stub(TimestampOracle, peer).allocate_timestamps(7) == 7
    await peer.close()
    await server.stop(1.0)
    executor.close()
