"""What every request meets on its way to a handler and back."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
import structlog

from elanus.access.context import CallContext
from elanus.access.ddl import HANDLERS
from elanus.access.dispatch import Dispatcher
from elanus.access.proxy import Proxy
from elanus.config.settings import ProxySettings, Settings
from elanus.errors import CollectionNotFound, DatabaseNotFound, DiskFull
from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.transport.base import GrpcError, GrpcStatus
from elanus.wire.protocol import methods, milvus
from elanus.wire.status import carries_status, success

SERVICE = "/milvus.proto.milvus.MilvusService/"


class Observed:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int, dict[str, float]]] = []

    def observe(
        self, method: str, collection: str, seconds: float, code: int, stages: Mapping[str, float]
    ) -> None:
        assert seconds >= 0
        self.seen.append((method, collection, code, dict(stages)))


class Nothing:
    """A coordinator and a router that nobody asks."""

    def on_change(self, listener: Any) -> None:
        pass

    async def describe_collection(self, database: str, name: str) -> Any:
        raise CollectionNotFound(database, name)

    async def describe_database(self, name: str) -> Any:
        raise DatabaseNotFound(name)


class Gate:
    """A handler that waits until it is let through."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.finished = asyncio.Event()
        self.context: CallContext | None = None

    async def handle(self, proxy: Proxy, request: Any, context: CallContext) -> Any:
        self.context = context
        self.entered.set()
        await self.open.wait()
        self.finished.set()
        context.stages["plan"] = 0.5
        return milvus.SearchResults(status=success())


async def write_on_full_disk(proxy: Proxy, request: Any, context: CallContext) -> Any:
    raise DiskFull("/data")


async def broken(proxy: Proxy, request: Any, context: CallContext) -> Any:
    raise ZeroDivisionError("oops")


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
async def dispatcher(gate: Gate, observed: Observed) -> AsyncIterator[Dispatcher]:
    executor = ThreadExecutor(cores=1)
    world = World(
        clock=SystemClock(),
        random=random.Random(1),
        executor=executor,
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 30),
    )
    settings = Settings(proxy=ProxySettings(max_task_num=2))
    proxy = Proxy(world, settings, cast(Any, Nothing()), cast(Any, Nothing()))
    handlers = {
        "Search": gate.handle,
        "HybridSearch": gate.handle,
        "DropCollection": gate.handle,
        "Insert": write_on_full_disk,
        "HasCollection": broken,
    }
    yield Dispatcher(proxy, handlers, observed)
    await world.tasks.close()
    executor.close()


async def call(dispatcher: Dispatcher, name: str, body: bytes = b"", **metadata: str) -> Any:
    answer = await dispatcher.handle(SERVICE + name, metadata, body, None)
    return methods()[name].response.FromString(answer)


async def test_a_handler_gets_the_database_and_the_caller(
    dispatcher: Dispatcher, gate: Gate, observed: Observed
) -> None:
    gate.open.set()
    request = milvus.SearchRequest(collection_name="books")
    metadata = {"dbname": "library", "identifier": "17", "client-request-id": "r1"}
    await dispatcher.call("Search", request, metadata, 5.0)
    context = gate.context
    assert context is not None
    assert (context.database, context.identifier, context.request_id) == ("library", 17, "r1")
    remaining = context.remaining_s(context.started_s)
    assert remaining == pytest.approx(5.0)
    assert observed.seen == [("Search", "books", 0, {"plan": 0.5})]


@pytest.mark.parametrize(
    ("in_request", "in_metadata", "database"),
    [("a", "b", "a"), ("", "b", "b"), ("", "", "default")],
)
async def test_the_requests_database_wins(
    dispatcher: Dispatcher, gate: Gate, in_request: str, in_metadata: str, database: str
) -> None:
    gate.open.set()
    request = milvus.SearchRequest(db_name=in_request)
    await call(dispatcher, "Search", request.SerializeToString(), dbname=in_metadata)
    assert gate.context is not None
    assert gate.context.database == database


async def test_an_error_is_a_status_and_not_a_grpc_error(
    dispatcher: Dispatcher, observed: Observed
) -> None:
    answer = await call(dispatcher, "Insert", milvus.InsertRequest().SerializeToString())
    assert (answer.status.code, answer.status.retriable) == (9, True)
    assert "no space left" in answer.status.reason
    assert observed.seen[0][2] == 9


async def test_a_defect_is_answered_with_65535_and_logged(dispatcher: Dispatcher) -> None:
    with structlog.testing.capture_logs() as logs:
        answer = await call(dispatcher, "HasCollection")
    assert (answer.status.code, answer.status.error_code) == (65535, 1)
    assert logs[0]["method"] == "HasCollection"
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


async def test_a_truncated_request_is_named(dispatcher: Dispatcher) -> None:
    answer = await call(dispatcher, "Insert", b"\x0a\xff")
    assert answer.status.code == 1100
    assert "Insert" in answer.status.reason


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (SERVICE + "Upsert", "does not implement Upsert yet"),
        (SERVICE + "Upset", "unknown method Upset"),
        ("/other.Service/Insert", "unknown service other.Service"),
    ],
)
async def test_what_is_not_there_is_unimplemented(
    dispatcher: Dispatcher, method: str, text: str
) -> None:
    with pytest.raises(GrpcError, match=text) as caught:
        await dispatcher.handle(method, {}, b"", None)
    assert caught.value.status is GrpcStatus.UNIMPLEMENTED


async def test_more_requests_than_allowed_are_refused(dispatcher: Dispatcher, gate: Gate) -> None:
    waiting = [asyncio.ensure_future(call(dispatcher, "Search")) for _ in range(2)]
    await gate.entered.wait()
    await asyncio.sleep(0)
    refused = await call(dispatcher, "Search")
    assert (refused.status.code, refused.status.retriable) == (4, True)
    gate.open.set()
    assert [answer.status.code for answer in await asyncio.gather(*waiting)] == [0, 0]
    assert (await call(dispatcher, "Search")).status.code == 0


async def test_a_read_is_cancelled_with_its_client(dispatcher: Dispatcher, gate: Gate) -> None:
    waiting = asyncio.ensure_future(call(dispatcher, "Search"))
    await gate.entered.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.open.set()
    assert not gate.finished.is_set()
    assert dispatcher.in_flight == 0


async def test_a_change_runs_to_its_end_without_its_client(
    dispatcher: Dispatcher, gate: Gate
) -> None:
    waiting = asyncio.ensure_future(call(dispatcher, "DropCollection"))
    await gate.entered.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.open.set()
    await asyncio.wait_for(gate.finished.wait(), 5)


def test_every_handler_is_of_a_method_whose_response_carries_a_status() -> None:
    for name in HANDLERS:
        assert carries_status(methods()[name].response), name


async def test_a_handler_of_an_unknown_method_is_a_defect(dispatcher: Dispatcher) -> None:
    with pytest.raises(ValueError, match="Upset"):
        Dispatcher(dispatcher._proxy, {"Upset": broken}, Observed())
