"""What a migration copies, translates, keeps within bounds and refuses; stores are real files."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from elanus.config.loading import load_settings
from elanus.config.settings import Settings
from elanus.coordinator.records import (
    CollectionRecord,
    CollectionState,
    PchannelRecord,
    Record,
    decode,
    encode,
    key_of,
)
from elanus.errors import CorruptData, InternalError, Rejected, Unavailable
from elanus.model.catalog import ChannelCheckpoint, CollectionInfo
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import ConsistencyLevel, DataType
from elanus.roles.migration import objects
from elanus.roles.migration.journal import claim
from elanus.roles.migration.migrate import Migration
from elanus.roles.migration.progress import Summary
from elanus.roles.migration.source import Source
from elanus.roles.storage import Storage, open_backends, open_storage
from elanus.runtime.world import World
from elanus.storage.disk import LocalDisk
from elanus.storage.identity import read_identity
from elanus.storage.meta.base import Put
from elanus.storage.meta.sqlite import SqliteMetaStore

DISK = LocalDisk()
LOG = "by-dev-rootcoord-dml_0"


class Silent:
    def begin(self, phase: str, items: int, size_bytes: int = 0) -> None: ...
    def advance(self, items: int = 1, size_bytes: int = 0) -> None: ...
    def end(self) -> None: ...


def settings_on(directory: Path, **more: object) -> Settings:
    return load_settings(None, {}, {"localStorage.path": str(directory), **more})


async def put_records(storage: Storage, *records: Record) -> None:
    await storage.meta.transact([Put(key_of(record), encode(record)) for record in records])


def collection(*collection_ids: int) -> list[CollectionRecord]:
    """Collections with one shard each, on one log."""
    schema = CollectionSchema(
        name="c", fields=(FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),)
    )
    return [
        CollectionRecord(
            info=CollectionInfo(
                collection_id=collection_id,
                database="default",
                schema=schema,
                vchannels=(f"{LOG}_{collection_id}v0",),
                partitions=(),
                consistency_level=ConsistencyLevel.STRONG,
                created_ts=1,
                updated_ts=1,
            ),
            state=CollectionState.CREATED,
        )
        for collection_id in collection_ids
    ]


async def migrate(world: World, source: Path, target: Path) -> Summary:
    places = settings_on(source), settings_on(target)
    async with Migration(world, DISK, *places, Silent()) as migration:
        return await migration.copy()


@pytest.fixture
async def storage(world: World, tmp_path: Path) -> AsyncIterator[Storage]:
    """An open storage in ``source``; tests close it before they migrate."""
    storage = await open_storage(world, DISK, settings_on(tmp_path / "source"))
    yield storage
    await storage.close()


async def test_objects_larger_than_a_chunk_go_through_a_file_and_leave_none(
    world: World, tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "CHUNK_BYTES", 16)
    contents = {f"insert_log/{size}": bytes(range(size)) for size in (0, 15, 16, 17, 200)}
    for key, content in contents.items():
        await storage.objects.put(key, [content])
    await storage.close()
    summary = await migrate(world, tmp_path / "source", tmp_path / "target")
    assert (summary.objects.items, summary.objects.size_bytes) == (5, 248)
    assert list((tmp_path / "target" / "scratch").iterdir()) == []
    moved = await open_storage(world, DISK, settings_on(tmp_path / "target"))
    assert {key: await moved.objects.get(key) for key in contents} == contents
    assert moved.cluster_id == storage.cluster_id
    await moved.close()


async def test_metadata_of_any_amount_fits_into_the_transactions_of_every_backend(
    world: World, tmp_path: Path, storage: Storage
) -> None:
    for n in range(300):
        await storage.meta.put(f"some/{n}", b"%d" % n)
    for n in range(5):
        await storage.meta.put(f"large/{n}", bytes(400_000))
    pairs = {pair.key: pair.value for pair in await storage.meta.range("")}
    await storage.close()
    summary = await migrate(world, tmp_path / "source", tmp_path / "target")
    assert summary.keys == 305
    moved = await open_storage(world, DISK, settings_on(tmp_path / "target"))
    assert {pair.key: pair.value for pair in await moved.meta.range("")} == pairs
    await moved.close()


@pytest.mark.parametrize("failpoint", ["migrate.after_append", "migrate.before_log_finished", ""])
async def test_every_shard_finds_its_records_and_the_next_writer_is_newer(
    world: World, tmp_path: Path, storage: Storage, failpoint: str
) -> None:
    records = [
        *collection(1, 2, 3),
        PchannelRecord(name=LOG, term=7),
        PchannelRecord(name="by-dev-rootcoord-dml_9", term=3),
        ChannelCheckpoint(vchannel=f"{LOG}_1v0", position=2, timestamp=20),
        ChannelCheckpoint(vchannel=f"{LOG}_2v0", position=4, timestamp=40),
        ChannelCheckpoint(vchannel="by-dev-rootcoord-dml_9_8v0", position=4, timestamp=40),
    ]
    await put_records(storage, *records)
    writer = await storage.wal.open_writer(LOG, 7)
    await writer.append([[b"%d" % n] for n in range(6)])
    await storage.close()
    if failpoint:
        world.failpoints.arm(failpoint, "error")
        with pytest.raises(InternalError, match=failpoint):
            await migrate(world, tmp_path / "source", tmp_path / "target")
    await migrate(world, tmp_path / "source", tmp_path / "target")
    moved = await open_storage(world, DISK, settings_on(tmp_path / "target"))
    found = [decode(pair.key, pair.value) for pair in await moved.meta.range("coordinator/")]
    checkpoints = {r.vchannel: r for r in found if isinstance(r, ChannelCheckpoint)}
    terms = {r.name: r.term for r in found if isinstance(r, PchannelRecord)}
    for number, expected in ((1, b"345"), (2, b"5"), (3, b"012345")):
        checkpoint = checkpoints.get(f"{LOG}_{number}v0")
        after = -1 if checkpoint is None else checkpoint.position
        replayed = [bytes(record.payload) async for record in moved.wal.read(LOG, after)]
        assert b"".join(replayed) == expected
    assert checkpoints[f"{LOG}_2v0"].timestamp == 40
    assert checkpoints["by-dev-rootcoord-dml_9_8v0"].position == -1
    assert terms[LOG] > 7
    assert terms["by-dev-rootcoord-dml_9"] == 3
    writer = await moved.wal.open_writer(LOG, terms[LOG] + 1)
    await writer.append([[b"new"]])
    await moved.close()


async def test_of_two_migrations_into_one_target_only_the_later_goes_on(
    world: World, tmp_path: Path, storage: Storage
) -> None:
    async with AsyncExitStack() as opened:
        (tmp_path / "target").mkdir()
        parts = await open_backends(world, DISK, settings_on(tmp_path / "target"), opened)
        first = await claim(world, parts, storage.cluster_id)
        second = await claim(world, parts, storage.cluster_id)
        with pytest.raises(Rejected, match="another migration"):
            await first.change([Put("coordinator/timestamp", b"1")])
        with pytest.raises(Rejected, match="another migration"):
            await first.complete()
        await second.change([Put("coordinator/timestamp", b"2")])
        await second.complete()
        marks = parts.meta_mark, parts.wal.mark, parts.objects_mark
        assert await read_identity(*marks) == storage.cluster_id
        assert [pair.key for pair in await parts.meta.range("storage/")] == ["storage/identity"]


async def test_a_source_that_is_written_to_meanwhile_is_noticed(
    world: World, tmp_path: Path, storage: Storage
) -> None:
    await put_records(storage, *collection(1), PchannelRecord(name=LOG, term=1))
    writer = await storage.wal.open_writer(LOG, 1)
    await writer.append([[b"one"]])
    await storage.close()
    async with Migration(
        world, DISK, settings_on(tmp_path / "source"), settings_on(tmp_path / "target"), Silent()
    ) as migration:
        source: Source = migration.source
        await source.require_unchanged()
        # Behind the lock's back: a local source can't be served, a remote one has no lock.
        intruder = await source.parts.wal.open(source.cluster_id)
        writer = await intruder.open_writer(LOG, 2)
        await writer.append([[b"two"]])
        with pytest.raises(Rejected, match=f"log {LOG} has grown"):
            await migration.copy()
        await intruder.close()
    with pytest.raises(Unavailable, match="unfinished migration"):
        await open_storage(world, DISK, settings_on(tmp_path / "target"))


async def test_a_storage_that_never_finished_its_first_start_is_no_source(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(Unavailable, match=r"metadata\.db"):
        await migrate(world, tmp_path / "source", tmp_path / "target")
    assert [path.name for path in (tmp_path / "source").iterdir()] == ["lock"]
    meta = await SqliteMetaStore.open(world, tmp_path / "source" / "metadata.db")
    await meta.close()
    (tmp_path / "source" / "objects").mkdir()
    with pytest.raises(CorruptData, match="there is no cluster here"):
        await migrate(world, tmp_path / "source", tmp_path / "target")


async def test_metadata_that_is_opened_for_reading_refuses_changes(
    world: World, tmp_path: Path, storage: Storage
) -> None:
    await storage.close()
    meta = await SqliteMetaStore.open(world, tmp_path / "source" / "metadata.db", read_only=True)
    with pytest.raises(Unavailable, match="readonly"):
        await meta.put("coordinator/timestamp", b"1")
    assert [pair.key for pair in await meta.range("")] == ["storage/identity"]
    await meta.close()


async def test_pulsar_must_have_the_prefix_that_the_logs_have(
    world: World, tmp_path: Path, storage: Storage
) -> None:
    await put_records(storage, *collection(1), PchannelRecord(name=LOG, term=1))
    await storage.close()
    more = {"mq.type": "pulsar", "msgChannel.chanNamePrefix.cluster": "other"}
    target = settings_on(tmp_path / "target", **more)
    async with Migration(
        world, DISK, settings_on(tmp_path / "source"), target, Silent()
    ) as migration:
        with pytest.raises(Rejected, match=r"set msgChannel\.chanNamePrefix\.cluster=by-dev"):
            await migration.copy()
