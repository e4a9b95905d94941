"""Metadata in an etcd that is killed, away, frozen, compacted or full.

Whoever uses the store sees errors while etcd is away and none when it is back, without opening
anything again; nothing acknowledged is lost and nothing happens twice.
"""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.integration.etcd_load import (
    PATIENCE_S,
    Progress,
    count_up,
    counted,
    open_store,
    watch_counter,
)
from tests.services.etcd import Etcd
from tests.services.fixtures import require
from tests.services.ports import free_port
from tests.services.tcp_proxy import TcpProxy

from elanus.config.storage import EtcdSettings
from elanus.errors import DiskFull, Unavailable
from elanus.storage.meta import etcd as etcd_module
from elanus.storage.meta.base import MAX_VALUE_BYTES, Compare, MetaStore, Put, RevisionCompacted

OwnService = Callable[..., Any]

OUTAGE_S = float(os.environ.get("ELANUS_TEST_OUTAGE_S", "3"))
SHORT_MS = 1_000
LONG_MS = 30_000
HELD_BACK_MS = 1_000
ON_THE_WAY_MS = 5
TASKS = 4
INCREMENTS = 100


def settings_for(*servers: Etcd | TcpProxy, timeout_ms: int = LONG_MS) -> EtcdSettings:
    endpoints = ",".join(
        server.address if isinstance(server, TcpProxy) else server.endpoint for server in servers
    )
    return EtcdSettings(endpoints=endpoints, root_path="faults", request_timeout=timeout_ms)


@pytest.fixture
def server(own_service: OwnService) -> Etcd:
    return own_service(Etcd)


@pytest.fixture
def proxy(server: Etcd) -> Iterator[TcpProxy]:
    with TcpProxy(server.endpoint) as proxy:
        yield proxy


def compact(server: Etcd, revision: int) -> None:
    server.call("kv/compaction", {"revision": str(revision), "physical": True})


async def test_kill_and_restart_lose_and_double_nothing(server: Etcd) -> None:
    progress = Progress()
    total = TASKS * INCREMENTS
    async with open_store(settings_for(server)) as store, open_store(settings_for(server)) as other:
        watching = asyncio.create_task(watch_counter(other, total))
        counting = [
            asyncio.create_task(
                count_up(store if task % 2 else other, f"task-{task}", INCREMENTS, progress)
            )
            for task in range(TASKS)
        ]
        for kill in range(1, 4):
            await progress.reach(kill * total // 5)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*counting)
            seen = await watching
        assert await counted(store) == (total, list(range(1, total + 1)))
        assert seen == list(range(1, total + 1))
        assert progress.acknowledged + progress.settled == total


async def test_cut_connections_lose_and_double_nothing(server: Etcd, proxy: TcpProxy) -> None:
    progress = Progress()
    total = TASKS * INCREMENTS
    async with open_store(settings_for(proxy)) as store:
        watching = asyncio.create_task(watch_counter(store, total))
        counting = [
            asyncio.create_task(count_up(store, f"task-{task}", INCREMENTS, progress))
            for task in range(TASKS)
        ]
        proxy.delay(ON_THE_WAY_MS)
        for cut in range(1, 20):
            await progress.reach(cut * total // 20)
            # Anywhere within the next increment, not always right after an answer.
            await asyncio.sleep(random.uniform(0, 5 * ON_THE_WAY_MS / 1_000))
            await asyncio.to_thread(proxy.reset_connections)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*counting)
            seen = await watching
        assert await counted(store) == (total, list(range(1, total + 1)))
        assert seen == list(range(1, total + 1))


@pytest.mark.parametrize("compared", [True, False])
async def test_a_change_whose_answer_was_lost_is_unknown_and_happens_once(
    server: Etcd, proxy: TcpProxy, compared: bool
) -> None:
    async with open_store(settings_for(proxy)) as store, open_store(settings_for(server)) as other:
        revision = await store.put("key", b"1")
        compares = [Compare("key", revision)] if compared else []
        proxy.delay(HELD_BACK_MS)
        changing = asyncio.create_task(store.transact([Put("key", b"2")], compares))
        event = await anext(other.watch("key", revision + 1))
        await asyncio.to_thread(proxy.reset_connections)
        proxy.heal()
        with pytest.raises(Unavailable, match="not known whether a change took effect"):
            await changing
        pair = await store.get("key")
        assert pair is not None
        assert (pair.value, pair.modified_revision) == (b"2", event.revision)


async def test_a_connection_that_is_dead_without_a_word_is_left(
    server: Etcd, proxy: TcpProxy
) -> None:
    async with open_store(settings_for(proxy, server)) as store:
        events = store.watch("", await store.put("key", b"1"))
        assert (await anext(events)).value == b"1"
        proxy.blackhole()
        async with asyncio.timeout(PATIENCE_S):
            pair = await store.get("key")
            assert pair is not None
            await store.put("key", b"2")
            assert (await anext(events)).value == b"2"


async def test_the_store_heals_by_itself_after_an_outage(server: Etcd) -> None:
    async with open_store(settings_for(server, timeout_ms=SHORT_MS)) as store:
        before = await store.put("before", b"1")
        lease = await store.grant_lease(OUTAGE_S + 600)
        events = store.watch("", before)
        assert (await anext(events)).key == "before"
        waiting = asyncio.ensure_future(anext(events))
        server.kill()
        async with asyncio.timeout(OUTAGE_S + PATIENCE_S):
            with pytest.raises(Unavailable, match=server.endpoint):
                await store.get("before")
            with pytest.raises(Unavailable, match=server.endpoint):
                await store.put("during", b"1")
            await asyncio.sleep(OUTAGE_S)
            await asyncio.to_thread(server.start)
            pair = await store.get("before")
            assert pair is not None
            assert pair.modified_revision == before
            await store.keep_alive(lease)
            await store.transact([Put("after", b"2", lease)])
            assert (await waiting).key == "after"
        assert await store.get("during") is None


async def test_closing_ends_what_still_waits(server: Etcd) -> None:
    async with open_store(settings_for(server)) as store:
        events = store.watch("", await store.put("key", b"1"))
        assert (await anext(events)).key == "key"
        server.pause()
        watching = asyncio.ensure_future(anext(events, None))
        reading = asyncio.create_task(store.get("key"))
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(Unavailable, match="is closed"):
            await reading
        assert await watching is None
        with pytest.raises(Unavailable, match="is closed"):
            await store.put("key", b"2")


async def test_opening_says_where_etcd_was_looked_for() -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    settings = EtcdSettings(endpoints=endpoint, request_timeout=SHORT_MS)
    with pytest.raises(Unavailable, match=f"{endpoint} can't be reached within 1 s"):
        async with open_store(settings):
            pass


async def test_a_watch_that_was_cut_sees_a_compaction_of_what_it_missed(server: Etcd) -> None:
    async with open_store(settings_for(server)) as store:
        first = await store.put("key", b"1")
        events = store.watch("", first)
        assert (await anext(events)).value == b"1"
        server.kill()
        await asyncio.to_thread(server.start)
        for value in (b"2", b"3", b"4"):
            newest = await store.put("key", value)
        compact(server, newest)
        with pytest.raises(RevisionCompacted, match="no longer kept"):
            await anext(events)
        again = store.watch("", (await store.snapshot("")).revision + 1)
        await store.put("key", b"5")
        assert (await anext(again)).value == b"5"


async def test_a_deletion_at_the_compacted_revision_is_not_passed_over(server: Etcd) -> None:
    async with open_store(settings_for(server)) as store:
        await store.put("key", b"1")
        deleted = await store.delete("key")
        compact(server, deleted)
        with pytest.raises(RevisionCompacted):
            await anext(store.watch("", deleted))
        put = await store.put("key", b"2")
        assert (await anext(store.watch("", deleted + 1))).revision == put


async def test_a_snapshot_begins_anew_when_its_revision_is_compacted(
    server: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_module, "MAX_PAGE_KEYS", 20)
    keys = [f"key/{number:04}" for number in range(1_000)]
    async with open_store(settings_for(server)) as store:
        for start in range(0, len(keys), 100):
            await store.transact([Put(key, b"0") for key in keys[start : start + 100]])
        reading = asyncio.create_task(store.snapshot("key/"))
        for number in range(3):
            value = str(number).encode()
            revision = (await store.transact([Put(keys[0], value), Put(keys[-1], value)])).revision
            await asyncio.to_thread(compact, server, revision)
        snapshot = await reading
        assert [pair.key for pair in snapshot.pairs] == keys
        assert snapshot.pairs[0].value == snapshot.pairs[-1].value


async def fill(store: MetaStore) -> None:
    for _ in range(16):
        await store.put("large", bytes(MAX_VALUE_BYTES))


class SmallEtcd(Etcd):
    """Has room for a few transactions of the largest size."""

    def command(self) -> list[str]:
        return [*super().command(), f"--quota-backend-bytes={4 << 20}"]


async def test_a_full_etcd_refuses_writes_and_goes_on_when_there_is_room(
    own_service: OwnService,
) -> None:
    server = own_service(SmallEtcd)
    async with open_store(settings_for(server)) as store:
        await store.put("kept", b"1")
        with pytest.raises(DiskFull, match=server.endpoint):
            await fill(store)
        with pytest.raises(DiskFull):
            await store.put("small", b"")
        assert await store.get("kept") is not None
        compact(server, await store.revision())
        server.call("maintenance/defragment", {})
        for alarm in server.call("maintenance/alarm", {})["alarms"]:
            server.call("maintenance/alarm", {"action": "DEACTIVATE", **alarm})
        await store.put("small", b"")


class ClusteredEtcd(Etcd):
    """One of several members."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self.members: list[ClusteredEtcd] = []

    @property
    def member_name(self) -> str:
        return f"m{self.ports['peer']}"

    def command(self) -> list[str]:
        cluster = ",".join(
            f"{m.member_name}=http://127.0.0.1:{m.ports['peer']}" for m in self.members
        )
        return [*super().command(), f"--name={self.member_name}", f"--initial-cluster={cluster}"]

    def leads(self) -> bool:
        status = self.call("maintenance/status", {})
        return bool(status["leader"] == status["header"]["member_id"])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[ClusteredEtcd]]:
    require(ClusteredEtcd)
    members = [ClusteredEtcd(tmp_path / str(number)) for number in range(3)]
    for member in members:
        member.members = members
    try:
        start_together(members)
        yield members
    finally:
        for member in members:
            member.kill()


def start_together(members: list[ClusteredEtcd]) -> None:
    """A member serves only when most of them are there."""
    with ThreadPoolExecutor(len(members)) as pool:
        list(pool.map(lambda member: member.start(), members))


@pytest.mark.services
async def test_a_change_of_leader_loses_and_doubles_nothing(cluster: list[ClusteredEtcd]) -> None:
    progress = Progress()
    total = TASKS * INCREMENTS
    async with open_store(settings_for(*cluster)) as store:
        watching = asyncio.create_task(watch_counter(store, total))
        counting = [
            asyncio.create_task(count_up(store, f"task-{task}", INCREMENTS, progress))
            for task in range(TASKS)
        ]
        for change in range(1, 3):
            await progress.reach(change * total // 4)
            leader = next(member for member in cluster if member.leads())
            await asyncio.to_thread(leader.kill)
            await progress.reach(change * total // 4 + total // 8)
            await asyncio.to_thread(leader.start)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*counting)
            seen = await watching
        assert await counted(store) == (total, list(range(1, total + 1)))
        assert seen == list(range(1, total + 1))


@pytest.mark.services
async def test_a_frozen_member_is_left_for_another(cluster: list[ClusteredEtcd]) -> None:
    async with open_store(settings_for(*cluster)) as store:
        await store.put("key", b"1")
        used, *_ = cluster
        used.pause()
        try:
            async with asyncio.timeout(PATIENCE_S):
                pair = await store.get("key")
                assert pair is not None
                await store.put("key", b"2")
        finally:
            used.resume()
