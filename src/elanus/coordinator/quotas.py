"""What is short in the cluster: memory of the nodes that hold a collection, quotas of disk.

Memory: from the low to the high water level of a node's ledger the write rates of what lies on it
fall to nothing; beyond that its writes are refused. The worst of a collection's nodes counts.

Disk: the flushed segments, as the metadata has them. Sums are kept by collection, and made again
only for those whose segments have changed.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from elanus.config.quotas import MemProtectionSettings
from elanus.coordinator.context import Context
from elanus.coordinator.query.loads import Loads
from elanus.coordinator.records import CollectionState
from elanus.model.catalog import CollectionInfo, pchannel_of
from elanus.model.quotas import (
    BYTES_PER_MB,
    COLLECTION_DISK_QUOTA,
    DATABASE_DISK_QUOTA,
    PARTITION_DISK_QUOTA,
    disk_quota_mb,
)
from elanus.services.messages import QuotaNotice

COLLECTIONS_PER_TURN = 200
"""So many are looked at before others get their turn on the event loop."""


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Of a node's ledger. ``holds_growing``: it is a streaming node, else a query node."""

    node_id: int
    holds_growing: bool
    used_bytes: int
    limit_bytes: int


class QuotaCentre:
    def __init__(self, context: Context, loads: Loads) -> None:
        self._context = context
        self._settings = context.settings.quota_and_limits.limit_writing
        self._loads = loads
        self._sizes: dict[int, Counter[int]] = {}
        context.events.segments.append(self._segments_changed)

    async def notice(self, readings: Sequence[MemoryReading], proxies: int) -> QuotaNotice:
        """For each of ``proxies`` proxies that are alive."""
        notice = QuotaNotice(proxies=proxies, write_factors=self._write_factors(readings))
        if not self._settings.disk_protection.enabled:
            return notice
        return await self._with_full_ones(notice)

    # --- memory ---------------------------------------------------------------------------------

    def _write_factors(self, readings: Sequence[MemoryReading]) -> dict[int, float]:
        protection = self._settings.mem_protection
        if not protection.enabled:
            return {}
        factors: dict[int, float] = {}
        for reading in readings:
            factor = memory_factor(reading, protection)
            if factor >= 1:
                continue
            if reading.holds_growing:
                held = self._growing_on(reading.node_id)
            else:
                held = self._loads.collections_on(reading.node_id)
            for collection_id in held:
                factors[collection_id] = min(factor, factors.get(collection_id, 1.0))
        return factors

    def _growing_on(self, node_id: int) -> Iterable[int]:
        records = self._context.catalog.tables.pchannels.values()
        owned = {record.name for record in records if record.node_id == node_id}
        return [
            info.collection_id
            for info in self._created()
            if any(pchannel_of(vchannel) in owned for vchannel in info.vchannels)
        ]

    # --- disk -----------------------------------------------------------------------------------

    async def _with_full_ones(self, notice: QuotaNotice) -> QuotaNotice:
        protection = self._settings.disk_protection
        databases: Counter[str] = Counter()
        collections: set[int] = set()
        partitions: set[int] = set()
        seen: set[int] = set()
        for number, info in enumerate(self._created(), 1):
            if number % COLLECTIONS_PER_TURN == 0:
                await asyncio.sleep(0)
            seen.add(info.collection_id)
            sizes = self._sizes_of(info.collection_id)
            total = sizes.total()
            databases[info.database] += total
            default_mb = protection.disk_quota_per_collection
            if _is_full(total, disk_quota_mb(info.properties, COLLECTION_DISK_QUOTA, default_mb)):
                collections.add(info.collection_id)
            default_mb = protection.disk_quota_per_partition
            quota_mb = disk_quota_mb(info.properties, PARTITION_DISK_QUOTA, default_mb)
            if quota_mb >= 0:
                ids = (partition.partition_id for partition in info.partitions)
                partitions.update(each for each in ids if _is_full(sizes[each], quota_mb))
        for dropped in self._sizes.keys() - seen:
            del self._sizes[dropped]
        return replace(
            notice,
            is_full=_is_full(databases.total(), protection.disk_quota),
            full_databases=frozenset(self._full_databases(databases)),
            full_collections=frozenset(collections),
            full_partitions=frozenset(partitions),
        )

    def _created(self) -> list[CollectionInfo]:
        return self._context.catalog.collections(CollectionState.CREATED)

    def _segments_changed(self, collection_id: int) -> None:
        self._sizes.pop(collection_id, None)

    def _sizes_of(self, collection_id: int) -> Counter[int]:
        """Partition id → bytes."""
        sizes = self._sizes.get(collection_id)
        if sizes is None:
            sizes = self._sizes[collection_id] = Counter()
            for segment in self._context.catalog.flushed(collection_id):
                sizes[segment.partition_id] += segment.size_bytes
        return sizes

    def _full_databases(self, sizes: Counter[str]) -> Iterable[str]:
        default_mb = self._settings.disk_protection.disk_quota_per_db
        for name, database in self._context.catalog.tables.databases.items():
            quota_mb = disk_quota_mb(database.properties, DATABASE_DISK_QUOTA, default_mb)
            if _is_full(sizes[name], quota_mb):
                yield name


def memory_factor(reading: MemoryReading, protection: MemProtectionSettings) -> float:
    """The part of the write rates that a node's memory leaves: 1 up to the low water level, 0 from
    the high one on, in between in proportion."""
    if reading.holds_growing:
        low = protection.data_node_memory_low_water_level
        high = protection.data_node_memory_high_water_level
    else:
        low = protection.query_node_memory_low_water_level
        high = protection.query_node_memory_high_water_level
    if reading.limit_bytes <= 0:
        return 1.0
    level = reading.used_bytes / reading.limit_bytes
    if level >= high:
        return 0.0
    if level <= low:
        return 1.0
    return (high - level) / (high - low)


def _is_full(size_bytes: int, quota_mb: float) -> bool:
    return quota_mb >= 0 and size_bytes >= quota_mb * BYTES_PER_MB
