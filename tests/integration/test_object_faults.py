"""A remote object store on bad days: busy, slow, cut off, killed.

What must hold: an acknowledged put is there with its content; a create-only key has exactly one
winner; an object is there as a whole or not at all; what fails fails as Unavailable, within the
deadline, and names no secret.
"""

import asyncio
import hashlib
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.remote_objects import behind, remote_settings
from tests.services.http_faults import HttpFaults
from tests.services.minio import MinioServer
from tests.services.tcp_proxy import TcpProxy
from tests.worlds import running_world

from elanus.config.storage import MinioSettings, MinioSslSettings
from elanus.errors import DiskFull, Unavailable
from elanus.runtime.world import World
from elanus.storage.objects.base import ObjectExists, ObjectStore
from elanus.storage.objects.remote import UPLOAD_IN_PARTS_BYTES, RemoteObjectStore

WORKERS = 8
PUTS = 20
CREATORS = 8
RACES = 6
FAST: dict[str, Any] = {"request_timeout_ms": 2_000, "retry_timeout_ms": 8_000}
LARGE_BYTES = UPLOAD_IN_PARTS_BYTES + (5 << 20)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running_world() as world:
        yield world


def content_of(key: str, size_bytes: int = 5_000) -> bytes:
    seed = hashlib.sha256(key.encode()).digest()
    return seed * (size_bytes // len(seed)) + seed[: size_bytes % len(seed)]


class Writers:
    """Put objects of known content at once, and remember which puts were acknowledged."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.acknowledged: set[str] = set()
        self.refused = 0

    async def run(self, name: str, puts: int = PUTS) -> None:
        await asyncio.gather(*(self._write(f"{name}/{worker}", puts) for worker in range(WORKERS)))

    async def _write(self, prefix: str, puts: int) -> None:
        for number in range(puts):
            key = f"{prefix}/{number}"
            try:
                await self._store.put(key, [content_of(key)], create_only=number % 2 == 0)
            except Unavailable:
                self.refused += 1
            else:
                self.acknowledged.add(key)

    async def check(self, reader: ObjectStore) -> None:
        """Every object that is there is whole, and what was acknowledged is there."""
        there = {info.key for info in await reader.list("")}
        assert self.acknowledged <= there
        for key in there:
            assert await reader.get(key) == content_of(key), key


async def race(store: ObjectStore, key: str) -> list[int]:
    """Who of many creators of one key won; each has content of its own."""

    async def create(number: int) -> int | None:
        try:
            await store.put(key, [content_of(f"{key}#{number}")], create_only=True)
        except (ObjectExists, Unavailable):
            return None
        return number

    results = await asyncio.gather(*(create(number) for number in range(CREATORS)))
    return [number for number in results if number is not None]


async def open_both(
    world: World, settings: MinioSettings, direct: MinioSettings
) -> tuple[RemoteObjectStore, RemoteObjectStore]:
    """The store under test, and one that no fault touches, on the same bucket."""
    reader = await RemoteObjectStore.open(world, direct)
    return await RemoteObjectStore.open(world, settings), reader


def pair(minio: MinioServer, proxy: str, **changes: Any) -> tuple[MinioSettings, MinioSettings]:
    faulty = behind(proxy, minio, **changes)
    direct = remote_settings(minio, root_path=faulty.root_path)
    return faulty, direct


async def test_a_busy_store_that_also_loses_answers(world: World, minio: MinioServer) -> None:
    with HttpFaults(minio.address) as faults:
        store, reader = await open_both(world, *pair(minio, faults.endpoint, **FAST))
        faults.refuse(0.25)
        faults.lose_replies(0.25)
        writers = Writers(store)
        await writers.run("busy")
        winners = {f"race/{number}": await race(store, f"race/{number}") for number in range(RACES)}
        faults.heal()
        assert faults.replies_lost
        for key, won in winners.items():
            assert len(won) <= 1
            for number in won:
                assert await reader.get(key) == content_of(f"{key}#{number}")
        assert any(winners.values())
        await reader.delete(list(winners))
        assert len(writers.acknowledged) > writers.refused
        await writers.check(reader)
        # Healthy again, nothing is refused.
        await writers.run("healthy", puts=2)
        await writers.check(reader)
        await store.delete([info.key for info in await store.list("")])
        assert await reader.list("") == []
        assert store.stats.retries > 0


async def test_reads_and_lists_of_a_busy_store(world: World, minio: MinioServer) -> None:
    with HttpFaults(minio.address) as faults:
        store, reader = await open_both(world, *pair(minio, faults.endpoint, max_retries=30))
        keys = [f"k/{number:02}" for number in range(30)]
        await asyncio.gather(*(reader.put(key, [content_of(key)]) for key in keys))
        large = content_of("large", LARGE_BYTES)
        await reader.put("large", [large])
        faults.refuse(0.5)
        assert [info.key for info in await store.list("k/")] == keys
        found = await asyncio.gather(*(store.get_range(key, 10, 20) for key in keys))
        assert found == [content_of(key)[10:30] for key in keys]
        assert await store.get("large") == large
        ranges = [(LARGE_BYTES - 9, 5), (7, 7), (9 << 20, 40)]
        expected = [large[start : start + length] for start, length in ranges]
        assert await store.get_ranges("large", ranges) == expected


async def test_a_slow_store_is_waited_for(world: World, minio: MinioServer) -> None:
    with HttpFaults(minio.address) as faults:
        store, reader = await open_both(world, *pair(minio, faults.endpoint))
        faults.delay(2_000)
        writers = Writers(store)
        await writers.run("slow", puts=1)
        faults.heal()
        assert writers.refused == 0
        await writers.check(reader)


async def test_a_store_slower_than_the_limit_is_unavailable_within_the_deadline(
    world: World, minio: MinioServer
) -> None:
    limits = {"request_timeout_ms": 300, "retry_timeout_ms": 1_000}
    with HttpFaults(minio.address) as faults:
        store, _ = await open_both(world, *pair(minio, faults.endpoint, **limits))
        faults.delay(600_000)
        async with asyncio.timeout(60):  # the server would take ten times as long
            with pytest.raises(Unavailable, match=r"late.*no answer in time") as caught:
                await store.put("late", [b"1"], create_only=True)
        assert minio.secret_key not in "".join(traceback.format_exception(caught.value))
        faults.heal()


async def test_a_server_killed_and_started_under_load(
    world: World, own_service: Callable[..., MinioServer]
) -> None:
    server = own_service(MinioServer)
    store = await RemoteObjectStore.open(world, remote_settings(server, **FAST))
    writers = Writers(store)
    load = asyncio.create_task(writers.run("killed", puts=60))
    for _ in range(2):
        await _until(lambda: len(writers.acknowledged) > 100 or load.done())
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    await load
    await writers.run("afterwards", puts=2)
    await writers.check(store)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what others do is not an event of ours
        await asyncio.sleep(0.01)


async def test_cut_connections(world: World, minio: MinioServer) -> None:
    with TcpProxy(minio.endpoint) as cable:
        store, reader = await open_both(world, *pair(minio, cable.address, **FAST))
        writers = Writers(store)
        load = asyncio.create_task(writers.run("cut"))
        for goal in (20, 40, 60):
            await _until(lambda goal=goal: len(writers.acknowledged) >= goal or load.done())
            await asyncio.to_thread(cable.reset_connections)
        await load
        await writers.check(reader)
        await asyncio.to_thread(cable.cut)
        with pytest.raises(Unavailable, match="nowhere"):
            await store.get("nowhere")
        await asyncio.to_thread(cable.heal)
        await writers.run("healed", puts=1)
        await writers.check(reader)


async def test_a_large_file_is_uploaded_whole_or_not_at_all(
    world: World, minio: MinioServer, tmp_path: Path
) -> None:
    source = tmp_path / "file"
    source.write_bytes(content_of("large", LARGE_BYTES))
    with HttpFaults(minio.address) as faults:
        limits = {"max_retries": 1, "retry_timeout_ms": 3_000}
        store, reader = await open_both(world, *pair(minio, faults.endpoint, **limits))
        faults.refuse(1.0, "PUT")  # parts fail, the upload can be begun and aborted
        with pytest.raises(Unavailable):
            await store.put_file("large", source)
        assert await reader.list("") == []
        assert not _unfinished_uploads(minio)
        faults.heal()
        await store.put_file("large", source)
        assert await reader.get("large") == source.read_bytes()
        await store.put("large", [b"small"])
        await store.put("large", [source.read_bytes()[:-1], b"!"])
        assert (await reader.get("large"))[-2:] == source.read_bytes()[-2:-1] + b"!"


def _unfinished_uploads(minio: MinioServer) -> list[Path]:
    return list((minio.data_directory / ".minio.sys" / "multipart").glob("*/*"))


async def test_a_bucket_is_made(world: World, minio: MinioServer) -> None:
    settings = remote_settings(minio, bucket_name="new-bucket", root_path="/a/b/")
    stores = await asyncio.gather(*(RemoteObjectStore.open(world, settings) for _ in range(4)))
    await stores[0].put("k", [b"1"], create_only=True)
    assert await stores[1].get("k") == b"1"
    without = await RemoteObjectStore.open(
        world, remote_settings(minio, bucket_name="new-bucket", root_path="")
    )
    assert [info.key for info in await without.list("")][-1] == "a/b/k"


async def test_opening_says_what_is_wrong(world: World, minio: MinioServer) -> None:
    once: dict[str, Any] = {"max_retries": 0}
    cases = [
        ({"port": 1}, r"can't be reached: .*refused"),
        ({"address": "nowhere.invalid"}, "can't be reached: "),
        ({"secret_access_key": "wrong-secret"}, "refuses the credentials.*SignatureDoesNotMatch"),
        ({"access_key_id": "nobody"}, "refuses the credentials.*InvalidAccessKeyId"),
        ({"bucket_name": "Not_A_Bucket"}, "InvalidBucketName"),
    ]
    for changes, message in cases:
        with pytest.raises(Unavailable, match=message) as caught:
            await RemoteObjectStore.open(world, remote_settings(minio, **once, **changes))
        text = "".join(traceback.format_exception(caught.value))
        assert minio.secret_key not in text
        assert "wrong-secret" not in text


async def test_tls_with_an_authority_of_ones_own(
    world: World, own_service: Callable[..., MinioServer]
) -> None:
    server = own_service(MinioServer, tls=True)
    assert server.certificates is not None
    trusting = MinioSslSettings(tls_ca_cert=str(server.certificates.authority))
    tls: dict[str, Any] = {"use_ssl": True, "max_retries": 0}
    with pytest.raises(Unavailable, match="certificate is not trusted"):
        await RemoteObjectStore.open(world, remote_settings(server, **tls))
    store = await RemoteObjectStore.open(world, remote_settings(server, ssl=trusting, **tls))
    await store.put("k", [b"1"], create_only=True)
    assert await store.get("k") == b"1"


async def test_credentials_and_region_from_the_environment(
    world: World, minio: MinioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With useIAM they are used; without it they are not, whatever is set."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    store = await RemoteObjectStore.open(world, remote_settings(minio, max_retries=0))
    await store.put("k", [b"1"])
    iam: dict[str, Any] = {"use_iam": True, "access_key_id": "", "secret_access_key": ""}
    with pytest.raises(Unavailable, match="refuses the credentials"):
        await RemoteObjectStore.open(world, remote_settings(minio, max_retries=0, **iam))
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    store = await RemoteObjectStore.open(world, remote_settings(minio, **iam))
    await store.put("k", [b"1"])


async def test_a_full_store_is_told_as_a_full_disk(world: World, minio: MinioServer) -> None:
    """The answer of a server whose drive is full, from a server that gives only this one."""
    body = b"<Error><Code>XMinioStorageFull</Code><Message>full</Message></Error>"
    answer = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    with TcpProxy(minio.endpoint) as cable:
        store, _ = await open_both(world, *pair(minio, cable.address))
        await asyncio.to_thread(cable.cut)
        server = await asyncio.start_server(refuse, "127.0.0.1", cable.port)
        async with server:
            with pytest.raises(DiskFull):
                await store.put("k", [b"1"])


async def test_bytes_that_changed_on_their_way_are_not_stored(
    world: World, minio: MinioServer
) -> None:
    """The first time the body arrives damaged; the store refuses it and the retry is right."""
    host, _, port = minio.endpoint.rpartition(":")
    damaged = 0

    handlers: set[asyncio.Task[None] | None] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal damaged
        handlers.add(asyncio.current_task())
        there = await asyncio.open_connection(host, int(port))

        async def back() -> None:
            while data := await there[0].read(65_536):
                writer.write(data)
                await writer.drain()

        answering = asyncio.create_task(back())
        try:
            while data := await reader.read(65_536):
                if b"fragile" in data and not damaged:
                    damaged += 1
                    data = data.replace(b"fragile", b"fr4gile")
                there[1].write(data)
                await there[1].drain()
        finally:
            answering.cancel()
            for end in (writer, there[1]):
                end.transport.abort()
            await asyncio.gather(answering, return_exceptions=True)

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    async with server:
        port_of_proxy = server.sockets[0].getsockname()[1]
        store, reader = await open_both(world, *pair(minio, f"127.0.0.1:{port_of_proxy}"))
        await store.put("k", [b"fragile" * 10], create_only=True)
        assert damaged == 1
        assert store.stats.retries == 1
        assert await reader.get("k") == b"fragile" * 10
    for handler in handlers:
        assert handler is not None
        handler.cancel()
    await asyncio.gather(*filter(None, handlers), return_exceptions=True)
