"""Copies on query nodes: a new coordinator uses those that are there, and none is left behind."""

from typing import Any

from tests.unit.coordinator.support import Rig, make_commit, make_segment, make_world, running

from elanus.coordinator.coordinator import Coordinator
from elanus.model.catalog import CollectionInfo, IndexInfo
from elanus.model.types import LoadState, MetricType
from elanus.services.messages import LoadSegment
from elanus.storage.meta.base import MetaStore


async def loaded(rig: Rig, name: str = "c") -> CollectionInfo:
    """A collection with two flushed segments, loaded."""
    info = await rig.create(name)
    base = info.collection_id
    segments = [make_segment(info, base + 1), make_segment(info, base + 2)]
    await rig.coordinator.commit_flush(make_commit(info, *segments))
    await rig.coordinator.create_index(
        IndexInfo(
            index_id=0,
            collection_id=info.collection_id,
            name="v",
            field_name="v",
            index_type="FLAT",
            metric_type=MetricType.L2,
            created_ts=0,
        )
    )
    await rig.coordinator.load(info.collection_id, (), 1)
    await until_loaded(rig, info)
    return info


async def until_loaded(rig: Rig, info: CollectionInfo) -> None:
    load = rig.coordinator._parts.loads._loaded
    await rig.until(
        lambda: (
            load[info.collection_id].state is LoadState.LOADED
            and not any(shard.behind for shard in load[info.collection_id].shards)
        ),
        "loaded",
    )


async def lead_anew(rig: Rig, meta: MetaStore) -> Rig:
    """The former coordinator is dead; another one leads over the same nodes."""
    await rig.world.tasks.close()
    following: Any = Rig(make_world(), None, rig.streaming, rig.query, rig.objects)  # type: ignore[arg-type]
    following.coordinator = Coordinator(
        following.world,
        rig.coordinator._context.settings,
        meta=meta,
        objects=rig.objects,
        router=following,
    )
    rig.streaming.coordinator = following.coordinator
    await following.coordinator.start()
    return following


async def test_a_new_coordinator_releases_nothing_that_is_read(meta: MetaStore) -> None:
    async with running(meta) as rig:
        info = await loaded(rig)
        before = set(rig.query.held)
        assert before
        rig.query.calls.clear()
        following = await lead_anew(rig, meta)
        try:
            await until_loaded(following, info)
            assert set(rig.query.held) == before
            assert rig.query.calls["release_segments"] == 0
            view = rig.streaming.views[info.vchannels[0]]
            assert view.reloaded == before, "they may lack deletes"
        finally:
            await following.world.tasks.close()


async def test_what_nobody_uses_is_released(meta: MetaStore) -> None:
    async with running(meta) as rig:
        info = await loaded(rig)
        used = set(rig.query.held)
        stranger = make_segment(info, 77)
        rig.query.held[77] = LoadSegment(stranger, info, (), ())
        await rig.coordinator._parts.holdings.compare(1)
        assert set(rig.query.held) == used


async def test_a_release_that_the_former_coordinator_did_not_finish_is_finished(
    meta: MetaStore,
) -> None:
    async with running(meta) as rig:
        info = await loaded(rig)
        rig.streaming.failures["release"] = 10_000
        releasing = rig.world.tasks.spawn(
            "release", rig.coordinator.release(info.collection_id, ())
        )
        await rig.until(lambda: rig.streaming.calls["release"] > 0)
        assert not releasing.done()
        assert rig.query.held
        following = await lead_anew(rig, meta)
        rig.streaming.failures.clear()
        try:
            await rig.until(lambda: not rig.query.held and not rig.streaming.views)
        finally:
            await following.world.tasks.close()


async def test_a_copy_that_is_missing_is_loaded_again_and_not_read_before(
    meta: MetaStore,
) -> None:
    async with running(meta) as rig:
        info = await loaded(rig)
        before = set(rig.query.held)
        rig.query.held.pop(min(before))
        former = rig.streaming.views[info.vchannels[0]]
        await rig.coordinator._parts.holdings.compare(1)
        await rig.until(lambda: set(rig.query.held) == before)
        await until_loaded(rig, info)
        assert rig.streaming.calls["release"] == 1
        view = rig.streaming.views[info.vchannels[0]]
        assert view.version > former.version
        assert view.reloaded == before
