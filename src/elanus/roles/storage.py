"""Opens the storage that the settings name: metadata, objects and the write-ahead log.

Which class serves ``metastore.type``, ``common.storageType`` and ``mq.type`` is decided here and
nowhere else: one small function per backend, which imports it only when it is chosen. Roles get
the three interfaces and don't notice what is behind them.

::

    <data directory>/
      lock          held while a process uses this directory
      metadata.db   SQLite                          (metastore.type=sqlite)
      wal/          the write-ahead log             (mq.type=local)
      objects/      segments, deletes, indexes      (common.storageType=local)
      cache/        copies of remote objects        (common.storageType=remote)
      instance      a name of this directory, if metadata is shared
      scratch/      what is not finished; emptied at start

Order: lock → metadata → objects → identity, which the parts must share → log. Closed in reverse.
"""

import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from elanus.config.settings import Settings
from elanus.errors import Unavailable
from elanus.runtime.world import World
from elanus.storage.disk import Disk, FileMissing
from elanus.storage.identity import (
    DirectoryMark,
    IdentityMark,
    MetaMark,
    ObjectsMark,
    ensure_identity,
)
from elanus.storage.meta.base import MetaStore
from elanus.storage.objects.base import ObjectStore
from elanus.storage.wal.base import Wal


@dataclass(frozen=True, slots=True)
class WalBackend:
    """A log that is opened once it is known whose it is: ``open(cluster_id)``.

    ``objects_prefix``: if the log lies in the object store, what its keys begin with.
    """

    mark: IdentityMark
    open: Callable[[str], Awaitable[Wal]]
    objects_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Backends:
    """The parts, before it is known whose they are."""

    meta: MetaStore
    objects: ObjectStore
    wal: WalBackend
    meta_mark: MetaMark
    objects_mark: ObjectsMark


@dataclass(frozen=True, slots=True)
class Storage:
    """Parts that belong together. ``close`` closes them in order and frees the directory."""

    meta: MetaStore
    objects: ObjectStore
    wal: Wal
    cluster_id: str
    opened: AsyncExitStack

    async def close(self) -> None:
        await self.opened.aclose()


async def open_storage(world: World, disk: Disk, settings: Settings) -> Storage:
    """Raises ElanusError, and then nothing is left open."""
    async with AsyncExitStack() as opened:
        await lock_directory(world, disk, settings, opened)
        parts = await open_backends(world, disk, settings, opened)
        cluster_id = await ensure_identity(
            world, parts.meta_mark, parts.wal.mark, parts.objects_mark
        )
        wal = await parts.wal.open(cluster_id)
        opened.push_async_callback(wal.close)
        return Storage(parts.meta, parts.objects, wal, cluster_id, opened.pop_all())


def directory_of(settings: Settings) -> Path:
    return Path(settings.local_storage.path).absolute()


def objects_directory(settings: Settings) -> Path:
    """Where local objects are."""
    shared = settings.local_storage.shared_path
    return Path(shared).absolute() if shared else directory_of(settings) / "objects"


def empty_scratch(disk: Disk, settings: Settings) -> Path:
    """The directory for unfinished work, without what a crash left there. Blocks."""
    scratch = directory_of(settings) / "scratch"
    if scratch.exists():
        shutil.rmtree(scratch)
    disk.make_directories(scratch)
    return scratch


def instance_of(disk: Disk, settings: Settings) -> str:
    """The name of the data directory, which must be locked: random, given once. Blocks."""
    path = directory_of(settings) / "instance"
    try:
        return disk.read_file(path).decode()
    except FileMissing:
        name = uuid4().hex
        disk.write_file_durably(path, [name.encode()])
        return name


def keeps_data_in_directory(settings: Settings) -> bool:
    """Whether the data directory holds more than copies and unfinished work."""
    return (
        settings.metastore.type == "sqlite"
        or settings.common.storage_type == "local"
        or settings.mq.type == "local"
    )


async def lock_directory(
    world: World, disk: Disk, settings: Settings, opened: AsyncExitStack
) -> None:
    """Make the data directory and keep other processes out. Raises Unavailable with the holder."""
    directory = directory_of(settings)
    await world.executor.run("io", disk.make_directories, directory)
    lock = await world.executor.run("io", disk.lock_file, directory / "lock")
    opened.callback(lock.release)


async def open_backends(
    world: World,
    disk: Disk,
    settings: Settings,
    opened: AsyncExitStack,
    *,
    read_only: bool = False,
    use_cache: bool = True,
) -> Backends:
    """The parts, to be closed by ``opened``. ``read_only``: nothing is made or changed; what does
    not exist is an error."""
    meta = await open_meta(world, settings, read_only)
    opened.push_async_callback(meta.close)
    objects = await _open_objects(world, disk, settings, read_only)
    opened.push_async_callback(objects.close)
    wal = _choose_wal(world, disk, settings, objects)
    where = str(objects_directory(settings))
    if settings.common.storage_type == "remote":
        where = "/".join(filter(None, (settings.minio.bucket_name, settings.minio.root_path)))
    beside = (wal.objects_prefix,) if wal.objects_prefix else ()
    mark = ObjectsMark(objects, where, beside=beside)
    if use_cache and settings.common.storage_type == "remote":
        objects = await _open_cache(world, disk, settings, objects)
        opened.push_async_callback(objects.close)
    return Backends(meta, objects, wal, MetaMark(meta), mark)


# --- metadata -----------------------------------------------------------------------------------


async def open_meta(world: World, settings: Settings, read_only: bool = False) -> MetaStore:
    """The metadata store alone, for tools that only look at it or watch it."""
    if settings.metastore.type == "etcd":
        return await _open_etcd(world, settings)
    return await _open_sqlite(world, settings, read_only)


async def _open_sqlite(world: World, settings: Settings, read_only: bool) -> MetaStore:
    from elanus.storage.meta.sqlite import SqliteMetaStore

    path = directory_of(settings) / "metadata.db"
    return await SqliteMetaStore.open(world, path, read_only=read_only)


async def _open_etcd(world: World, settings: Settings) -> MetaStore:
    from elanus.storage.meta.etcd import EtcdMetaStore

    return await EtcdMetaStore.open(world, settings.etcd)


# --- objects ------------------------------------------------------------------------------------


async def _open_objects(
    world: World, disk: Disk, settings: Settings, read_only: bool
) -> ObjectStore:
    if settings.common.storage_type == "remote":
        return await _open_remote_objects(world, settings)
    return await _open_local_objects(world, disk, settings, read_only)


async def _open_local_objects(
    world: World, disk: Disk, settings: Settings, read_only: bool
) -> ObjectStore:
    from elanus.storage.objects.local import LocalObjectStore

    directory = objects_directory(settings)
    if not read_only and settings.local_storage.shared_path:
        name = await world.executor.run("io", instance_of, disk, settings)
        return await LocalObjectStore.open(world, disk, directory, name)
    if not read_only:
        return await LocalObjectStore.open(world, disk, directory)
    if await world.executor.run("io", disk.file_info, directory) is None:
        raise Unavailable(f"there are no objects: {directory} does not exist")
    return LocalObjectStore(world, disk, directory)


async def _open_remote_objects(world: World, settings: Settings) -> ObjectStore:
    from elanus.storage.objects.remote import RemoteObjectStore

    return await RemoteObjectStore.open(world, settings.minio)


async def _open_cache(
    world: World, disk: Disk, settings: Settings, remote: ObjectStore
) -> ObjectStore:
    """``remote`` with local copies under ``<data directory>/cache``."""
    from elanus.storage.objects.cached import CachedObjectStore

    directory = directory_of(settings) / "cache"
    max_bytes = settings.local_storage.cache.max_size << 20
    tiered = settings.query_node.segcore.tiered_storage
    return await CachedObjectStore.open(
        world,
        remote,
        directory,
        max_bytes,
        low=tiered.disk_low_watermark_ratio,
        high=tiered.disk_high_watermark_ratio,
    )


# --- write-ahead log ----------------------------------------------------------------------------


def _choose_wal(world: World, disk: Disk, settings: Settings, objects: ObjectStore) -> WalBackend:
    """``objects`` is the store itself: a log that lies there must not go through a cache."""
    match settings.mq.type:
        case "woodpecker":
            return _woodpecker(world, settings, objects)
        case "kafka":
            return _kafka(world, settings)
        case "pulsar":
            return _pulsar(world, settings)
        case _:
            return _local_wal(world, disk, settings)


def _local_wal(world: World, disk: Disk, settings: Settings) -> WalBackend:
    from elanus.storage.wal.local import LocalWal

    directory = directory_of(settings) / "wal"

    async def open_wal(cluster_id: str) -> Wal:
        return LocalWal(world, disk, directory, settings.wal, cluster_id)

    return WalBackend(DirectoryMark(world, disk, directory), open_wal)


def _woodpecker(world: World, settings: Settings, objects: ObjectStore) -> WalBackend:
    from elanus.storage.wal.woodpecker import WoodpeckerWal

    prefix = f"{settings.woodpecker.root_path.strip('/')}/"

    async def open_wal(cluster_id: str) -> Wal:
        return WoodpeckerWal(world, objects, settings.woodpecker, cluster_id)

    mark = ObjectsMark(objects, f"of the log, {prefix}", prefix=prefix)
    return WalBackend(mark, open_wal, prefix)


def _kafka(world: World, settings: Settings) -> WalBackend:
    from elanus.storage.wal.kafka import KafkaMark, KafkaWal

    prefix = settings.msg_channel.chan_name_prefix.cluster

    async def open_wal(cluster_id: str) -> Wal:
        return KafkaWal(world, settings.kafka, prefix, cluster_id)

    return WalBackend(KafkaMark(world, settings.kafka, prefix), open_wal)


def _pulsar(world: World, settings: Settings) -> WalBackend:
    from elanus.storage.wal.pulsar import PulsarWal
    from elanus.storage.wal.pulsar_mark import PulsarMark

    prefix = settings.msg_channel.chan_name_prefix.cluster

    async def open_wal(cluster_id: str) -> Wal:
        return PulsarWal(world, settings.pulsar, prefix, cluster_id)

    return WalBackend(PulsarMark(world, settings.pulsar, prefix), open_wal)
