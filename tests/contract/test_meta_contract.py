"""What every metadata store must do. A new backend joins by another case of ``backend``."""

import asyncio
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elanus.config.storage import EtcdSettings
from elanus.errors import InternalError, ParameterTooLarge, Unavailable
from elanus.runtime.clock import SystemClock
from elanus.runtime.world import World
from elanus.storage.meta.base import (
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    Compare,
    Delete,
    MetaStore,
    Put,
    RevisionCompacted,
    Snapshot,
    WatchEvent,
)
from elanus.storage.meta.etcd import EtcdMetaStore
from elanus.storage.meta.memory import MemoryMetaStore
from elanus.storage.meta.sqlite import SqliteMetaStore
from tests.contract.conftest import ManualClock

OpenStore = Callable[[], Awaitable[MetaStore]]
PATIENCE_S = 30


class Leases(ABC):
    """How the time of leases passes."""

    ttl_s: float

    @abstractmethod
    async def outlive(self, store: MetaStore, lease: int) -> None:
        """More than the lease's time passes, in parts after each of which it is kept alive."""

    @abstractmethod
    async def let_end(self) -> None:
        """The lease's time passes; if that is real time, whoever waits for its end may begin."""


class ManualLeases(Leases):
    ttl_s = 10

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    async def outlive(self, store: MetaStore, lease: int) -> None:
        self._clock.advance(0.9 * self.ttl_s)
        await store.keep_alive(lease)
        self._clock.advance(0.9 * self.ttl_s)
        await asyncio.sleep(0.01)

    async def let_end(self) -> None:
        self._clock.advance(0.15 * self.ttl_s)


class RealLeases(Leases):
    """Time can't be hurried, and a lease is long enough for a machine that is busy."""

    ttl_s = 5

    async def outlive(self, store: MetaStore, lease: int) -> None:
        for _ in range(12):
            await asyncio.sleep(0.1 * self.ttl_s)
            await store.keep_alive(lease)

    async def let_end(self) -> None:
        return


@dataclasses.dataclass(frozen=True)
class Backend:
    open_store: OpenStore
    leases: Leases


@pytest.fixture(params=["memory", "sqlite", pytest.param("etcd", marks=pytest.mark.services)])
async def backend(
    request: pytest.FixtureRequest, world: World, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Backend]:
    leases = ManualLeases(clock)
    async with AsyncExitStack() as stores:

        async def open_memory() -> MetaStore:
            return MemoryMetaStore(world)

        async def open_sqlite() -> MetaStore:
            return await SqliteMetaStore.open(world, tmp_path / f"meta-{uuid4()}.db")

        async def open_etcd() -> MetaStore:
            settings = EtcdSettings(
                endpoints=request.getfixturevalue("etcd").endpoint, root_path=f"contract-{uuid4()}"
            )
            return await EtcdMetaStore.open(
                dataclasses.replace(world, clock=SystemClock()), settings
            )

        open_new = {"memory": open_memory, "sqlite": open_sqlite, "etcd": open_etcd}[request.param]

        async def open_one() -> MetaStore:
            store = await open_new()
            stores.push_async_callback(store.close)
            return store

        yield Backend(open_one, RealLeases() if request.param == "etcd" else leases)


@pytest.fixture
def open_store(backend: Backend) -> OpenStore:
    """Opens a new, empty store each time."""
    return backend.open_store


@pytest.fixture
async def store(open_store: OpenStore) -> MetaStore:
    return await open_store()


async def test_a_key_remembers_its_value_and_both_revisions(store: MetaStore) -> None:
    first = await store.put("a", b"1")
    second = await store.put("b", b"2")
    third = await store.put("a", b"3")
    pair = await store.get("a")
    assert pair is not None
    assert (pair.value, pair.created_revision, pair.modified_revision) == (b"3", first, third)
    assert first < second < third == await store.revision()


async def test_a_deleted_key_is_gone_and_starts_anew(store: MetaStore) -> None:
    await store.put("a", b"1")
    await store.delete("a")
    assert await store.get("a") is None
    created = await store.put("a", b"2")
    pair = await store.get("a")
    assert pair is not None
    assert pair.created_revision == created


async def test_a_range_is_in_key_order_within_its_prefix(store: MetaStore) -> None:
    keys = ["p/b", "p/a", "p", "p/ä", "p/\U0001f600", "q", "o", "p0", "\U0010ffffx"]
    await store.transact([Put(key, key.encode()) for key in keys])
    found = await store.range("p/")
    assert [pair.key for pair in found] == ["p/a", "p/b", "p/ä", "p/\U0001f600"]
    assert [pair.value for pair in found] == [pair.key.encode() for pair in found]
    assert [pair.key for pair in await store.range("p/", after="p/a", limit=2)] == ["p/b", "p/ä"]
    assert len(await store.range("")) == len(keys)
    assert await store.range("nothing") == []
    assert [pair.key for pair in await store.range("\U0010ffff")] == ["\U0010ffffx"]


async def test_a_snapshot_is_of_one_instant_and_says_which(store: MetaStore) -> None:
    keys = [f"s/{number:05}" for number in range(2_500)]
    for start in range(0, len(keys), MAX_OPERATIONS):
        await store.transact([Put(key, b"0") for key in keys[start : start + MAX_OPERATIONS]])
    stop = asyncio.Event()

    async def move_on() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            value = b"%d" % number
            await store.transact([Put(keys[0], value), Put(keys[-1], value)])

    mover = asyncio.create_task(move_on())
    for _ in range(10):
        snapshot = await store.snapshot("s/")
        assert [pair.key for pair in snapshot.pairs] == keys
        assert snapshot.pairs[0].value == snapshot.pairs[-1].value
        newest = max(pair.modified_revision for pair in snapshot.pairs)
        assert newest <= snapshot.revision
    stop.set()
    await mover
    final = await store.snapshot("s/")
    assert final.revision == await store.revision()
    assert await store.snapshot("t/") == Snapshot([], final.revision)


async def test_what_is_too_large_for_one_transaction_is_refused_whole(store: MetaStore) -> None:
    too_many = [Put(f"k/{number:04}", b"") for number in range(MAX_OPERATIONS + 1)]
    with pytest.raises(ParameterTooLarge, match="129 operations"):
        await store.transact(too_many)
    with pytest.raises(ParameterTooLarge, match="129 comparisons"):
        await store.transact([], [Compare(put.key, 0) for put in too_many])
    with pytest.raises(ParameterTooLarge, match=r"1048576 bytes.* k/large"):
        await store.transact([Put("a", b""), Put("k/large", bytes(MAX_VALUE_BYTES + 1))])
    assert await store.range("") == []
    await store.transact([Put("k/large", bytes(MAX_VALUE_BYTES))], [Compare("k/large", 0)])
    await store.transact(too_many[:-1], [Compare(put.key, 0) for put in too_many[:-1]])
    assert len(await store.range("")) == MAX_OPERATIONS + 1


async def test_no_amount_of_data_is_too_large_to_read(store: MetaStore) -> None:
    values = {
        f"large/{number:02}": bytes([number]) * (MAX_VALUE_BYTES // 2) for number in range(40)
    }
    start = await store.revision() + 1
    for key, value in values.items():
        await store.put(key, value)
    assert {pair.key: pair.value for pair in await store.range("large/")} == values
    assert len((await store.snapshot("")).pairs) == len(values)
    events = await take(store.watch("large/", start), len(values))
    assert [(event.key, event.value) for event in events] == list(values.items())


async def test_a_transaction_does_all_or_nothing(store: MetaStore) -> None:
    revision = await store.put("a", b"1")
    done = await store.transact(
        [Put("b", b"2"), Delete("a")], [Compare("a", revision), Compare("c", 0)]
    )
    assert done.succeeded
    refused = await store.transact([Put("d", b"4"), Delete("b")], [Compare("a", revision)])
    assert not refused.succeeded
    assert refused.revision == done.revision
    assert [pair.key for pair in await store.range("")] == ["b"]


async def test_one_of_many_racers_wins(store: MetaStore) -> None:
    async def race(name: str) -> bool:
        return (await store.transact([Put("x", name.encode())], [Compare("x", 0)])).succeeded

    won = await asyncio.gather(*(race(str(number)) for number in range(20)))
    assert sum(won) == 1


async def test_a_transaction_names_a_key_once(store: MetaStore) -> None:
    with pytest.raises(InternalError, match="twice"):
        await store.transact([Put("a", b""), Delete("a")])
    assert await store.get("a") is None


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[WatchEvent]:
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(events) for _ in range(count)]


async def test_a_watch_sees_past_and_coming_changes_in_order(store: MetaStore) -> None:
    await store.put("w/a", b"old")
    start = await store.put("w/a", b"1")
    await store.put("other", b"x")
    events = store.watch("w/", start)
    assert await take(events, 1) == [WatchEvent("w/a", b"1", start)]
    waiting = asyncio.create_task(take(events, 2))
    await asyncio.sleep(0)
    put = await store.put("w/b", b"2")
    deleted = await store.delete("w/a")
    assert await waiting == [WatchEvent("w/b", b"2", put), WatchEvent("w/a", None, deleted)]


async def test_a_watch_ends_when_the_store_is_closed(store: MetaStore) -> None:
    events = store.watch("", await store.revision() + 1)
    waiting = asyncio.create_task(take(events, 1))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises((StopAsyncIteration, RuntimeError)):
        await waiting


async def test_a_lease_takes_its_keys_with_it(backend: Backend, store: MetaStore) -> None:
    lease = await store.grant_lease(backend.leases.ttl_s)
    await store.transact([Put("kept", b""), Put("leased", b"", lease)])
    events = store.watch("leased", await store.revision() + 1)
    await asyncio.sleep(0)
    await backend.leases.outlive(store, lease)
    assert await store.get("leased") is not None
    await backend.leases.let_end()
    assert (await take(events, 1))[0].value is None
    assert [pair.key for pair in await store.range("")] == ["kept"]
    with pytest.raises(Unavailable):
        await store.keep_alive(lease)
    with pytest.raises(Unavailable):
        await store.transact([Put("late", b"", lease)])


async def test_a_revoked_lease_takes_its_keys_at_once(store: MetaStore) -> None:
    lease = await store.grant_lease(1_000)
    await store.transact([Put("leased", b"", lease), Put("moved", b"", lease)])
    await store.put("moved", b"free of the lease now")
    await store.revoke_lease(lease)
    assert [pair.key for pair in await store.range("")] == ["moved"]


async def test_sqlite_keeps_everything_over_a_restart(world: World, tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    store = await SqliteMetaStore.open(world, path)
    lease = await store.grant_lease(10)
    await store.transact([Put("a", b"1", lease), Put("b", b"2")])
    before = [await store.get("a"), await store.get("b"), await store.revision()]
    await store.close()
    store = await SqliteMetaStore.open(world, path)
    assert [await store.get("a"), await store.get("b"), await store.revision()] == before
    await store.keep_alive(lease)
    with pytest.raises(RevisionCompacted):
        await anext(store.watch("", 1))
    await store.close()


KEYS = st.text(alphabet="ab/é\ud7ff\U00010000", max_size=3)
VALUES = st.binary(max_size=3)
OPERATION = st.one_of(st.builds(Put, KEYS, VALUES), st.builds(Delete, KEYS))
OPERATIONS = st.lists(OPERATION, max_size=4, unique_by=lambda operation: operation.key)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(transactions=st.lists(OPERATIONS, max_size=8), prefix=KEYS, after=st.none() | KEYS)
async def test_a_store_equals_a_dictionary(
    open_store: OpenStore,
    transactions: list[list[Put | Delete]],
    prefix: str,
    after: str | None,
) -> None:
    store = await open_store()
    model: dict[str, bytes] = {}
    changes: list[tuple[str, bytes | None]] = []
    for operations in transactions:
        for operation in operations:
            if isinstance(operation, Put):
                model[operation.key] = operation.value
                changes.append((operation.key, operation.value))
            elif model.pop(operation.key, None) is not None:
                changes.append((operation.key, None))
        await store.transact(operations)
    found = await store.range(prefix, after=after)
    expected = [
        (key, model[key])
        for key in sorted(model)
        if key.startswith(prefix) and (after is None or key > after)
    ]
    assert [(pair.key, pair.value) for pair in found] == expected
    seen = await take(store.watch("", 1), len(changes))
    assert [(event.key, event.value) for event in seen] == changes
    revisions = [event.revision for event in seen]
    assert revisions == sorted(revisions)
