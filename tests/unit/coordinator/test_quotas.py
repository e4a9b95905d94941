"""What the quota centre says of memory and disk."""

from collections.abc import Sequence

import msgspec
import pytest
from tests.unit.coordinator.support import Rig, make_commit, make_segment, running
from tests.unit.coordinator.test_coordinator_ddl import vector_index

from elanus.config.settings import Settings
from elanus.coordinator.quotas import MemoryReading, memory_factor
from elanus.errors import InvalidParameter
from elanus.model.catalog import CollectionInfo
from elanus.services.messages import QuotaNotice
from elanus.storage.meta.base import MetaStore

MB = 1 << 20


def settings(**disk: float) -> Settings:
    section = {"limitWriting": {"diskProtection": disk}}
    return msgspec.convert({"quotaAndLimits": section}, Settings)


async def flush(rig: Rig, info: CollectionInfo, segment_id: int, size_mb: float) -> None:
    segment = make_segment(info, segment_id, size_bytes=int(size_mb * MB))
    await rig.coordinator.commit_flush(make_commit(info, segment))


async def notice(rig: Rig, readings: Sequence[MemoryReading] = ()) -> QuotaNotice:
    return await rig.coordinator.quota_notice(readings, proxies=2)


@pytest.mark.parametrize("holds_growing", [True, False])
def test_memory_lets_writes_go_on_up_to_low_and_stops_them_at_high(holds_growing: bool) -> None:
    protection = Settings().quota_and_limits.limit_writing.mem_protection

    def factor(used: int) -> float:
        return memory_factor(MemoryReading(1, holds_growing, used, 100), protection)

    assert [factor(used) for used in (0, 50, 85)] == [1, 1, 1]
    assert [round(factor(used), 3) for used in (87, 90, 93)] == [0.8, 0.5, 0.2]
    assert [factor(used) for used in (95, 99, 120)] == [0, 0, 0]
    assert memory_factor(MemoryReading(1, holds_growing, 5, 0), protection) == 1, "unknown"


async def test_a_streaming_node_short_of_memory_slows_what_grows_on_it(meta: MetaStore) -> None:
    async with running(meta) as rig:
        info = await rig.create()
        node_id = rig.streaming.node_id
        readings = [
            MemoryReading(node_id, True, 90, 100),
            MemoryReading(node_id + 1, True, 99, 100),
        ]
        said = await notice(rig, readings)
        assert said.proxies == 2
        assert said.write_factors == {info.collection_id: pytest.approx(0.5)}


async def test_the_worst_node_of_a_collection_counts(meta: MetaStore) -> None:
    async with running(meta) as rig:
        info = await rig.create()
        await flush(rig, info, 7, 1)
        await rig.coordinator.create_index(vector_index(info))
        await rig.coordinator.load(info.collection_id, (), 1)
        loaded = [MemoryReading(1, False, 96, 100)]
        growing = [MemoryReading(rig.streaming.node_id, True, 90, 100)]

        async def factors(readings: list[MemoryReading]) -> dict[int, float]:
            return (await notice(rig, readings)).write_factors

        await rig.until(
            lambda: (
                bool(rig.streaming.views) and bool(rig.streaming.views[info.vchannels[0]].sealed)
            )
        )
        assert await factors(growing + loaded) == {info.collection_id: 0.0}
        assert await factors(loaded + growing) == {info.collection_id: 0.0}


async def test_without_quotas_nothing_is_full(meta: MetaStore) -> None:
    async with running(meta) as rig:
        await flush(rig, await rig.create(), 7, 10_000)
        assert (await notice(rig)).is_all_well


async def test_quotas_of_disk_are_looked_at_in_every_scope(meta: MetaStore) -> None:
    disk = {"diskQuota": 100, "diskQuotaPerDB": 50, "diskQuotaPerCollection": 20}
    async with running(meta, settings=settings(**disk)) as rig:
        info = await rig.create("a", properties={"partition.diskProtection.diskQuota.mb": "10"})
        other = await rig.create("b")
        await flush(rig, info, 1, 9)
        assert (await notice(rig)).is_all_well
        await flush(rig, info, 2, 2)
        said = await notice(rig)
        assert said.full_partitions == {info.partitions[0].partition_id}
        assert not said.full_collections
        await flush(rig, info, 3, 9)
        said = await notice(rig)
        assert said.full_collections == {info.collection_id}
        assert not said.full_databases
        await flush(rig, other, 4, 30)
        said = await notice(rig)
        assert said.full_databases == {"default"}
        assert not said.is_full
        await flush(rig, other, 5, 50)
        assert (await notice(rig)).is_full
        await rig.coordinator.drop_collection("default", "b")
        said = await notice(rig)
        assert not said.is_full
        assert said.full_collections == {info.collection_id}


async def test_properties_set_quotas_of_their_own(meta: MetaStore) -> None:
    async with running(meta, settings=settings(diskQuotaPerCollection=5)) as rig:
        small = await rig.create("a", properties={"collection.diskProtection.diskQuota.mb": "1"})
        large = await rig.create("b", properties={"collection.diskProtection.diskQuota.mb": "-1"})
        await rig.coordinator.create_database("db", {"database.diskQuota.mb": "3"})
        inside = await rig.create("c", database="db")
        for number, info in enumerate((small, large, inside), 1):
            await flush(rig, info, number, 4)
        said = await notice(rig)
        assert said.full_collections == {small.collection_id}
        assert said.full_databases == {"db"}


async def test_a_limit_that_is_no_number_is_refused(meta: MetaStore) -> None:
    async with running(meta) as rig:
        with pytest.raises(InvalidParameter, match=r"insertRate.max.mb can't be used.*actual=fast"):
            await rig.create(properties={"collection.insertRate.max.mb": "fast"})
        with pytest.raises(InvalidParameter, match=r"database.diskQuota.mb"):
            await rig.coordinator.create_database("db", {"database.diskQuota.mb": "-3"})
        with pytest.raises(InvalidParameter, match=r"database.queryRate.max.qps"):
            await rig.coordinator.alter_database(
                "default", {"database.queryRate.max.qps": "nan!"}, []
            )
