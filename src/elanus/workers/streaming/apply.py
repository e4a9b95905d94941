"""Applies durable writes, in order, to everything that reads look at.

Within one group: first rows and deletes go into the growing segments, then, in one synchronous
step, into the delete buffer together with the choice of the sealed segments that are told; then
the query nodes hear of the deletes. Nothing of it can be seen before the safe time passes the
group. A view that switches in between has taken the new deletes from the buffer, or they are sent
to it: never neither.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from elanus.errors import ElanusError
from elanus.model.catalog import ALL_PARTITIONS
from elanus.runtime.world import World
from elanus.services.messages import PrimaryKeys, QueryView, WriteRequest
from elanus.services.routing import Router
from elanus.workers.streaming.delete_buffer import BufferedDelete
from elanus.workers.streaming.shard import Growing, Shard

log = structlog.get_logger(__name__)

_APPLY_ON_LOOP_BYTES = 256 << 10
_BYTES_PER_WRITE = 16 << 10
_FIRST_REPAIR_PAUSE_S = 0.02
_LONGEST_REPAIR_PAUSE_S = 5.0


Copy = tuple[int, int]
"""A copy of a sealed segment: the segment's id and the query node's."""


@dataclass(frozen=True, slots=True)
class Apply:
    """One durable write: its shard, timestamp, WAL position and the segments of its parts."""

    shard: Shard
    request: WriteRequest
    timestamp: int
    position: int
    segments: tuple[Growing, ...]


class Applier:
    """See the module."""

    def __init__(self, world: World, router: Router) -> None:
        self._world = world
        self._router = router

    async def apply(self, writes: Sequence[Apply]) -> None:
        size_bytes = sum(_cost_bytes(write) for write in writes)
        jobs = [(write, tuple(write.shard.growing.values())) for write in writes]
        if size_bytes <= _APPLY_ON_LOOP_BYTES:
            apply_to_growing(jobs)
        else:
            await self._world.executor.run("compute", apply_to_growing, jobs)
        for write in writes:
            note_applied(write)
        for write in writes:
            if write.request.deletes:
                async with write.shard.apply_lock:
                    await self._delete_from_sealed(write)

    async def _delete_from_sealed(self, write: Apply) -> None:
        # Buffer and view in one step: see the module.
        shard = write.shard
        buffer_deletes(write)
        if shard.view is not None:
            await self.send_deletes(shard, shard.view, write.request.deletes, write.timestamp, None)

    async def send_deletes(
        self,
        shard: Shard,
        view: QueryView,
        deletes: tuple[PrimaryKeys, ...],
        timestamp: int,
        only: frozenset[Copy] | None,
    ) -> bool:
        """Tell the nodes that hold the view's sealed segments (``only`` these copies, if given).
        True if all were told.

        A node that can't be told is lost to this shard until it was told all that it missed:
        reads keep to other copies, because on this one they would see deleted rows. Writes don't
        wait for it again.
        """
        partitions = {part.partition_id for part in deletes}
        if only is None and shard.offer is not None:
            shard.offer.told.update(dict.fromkeys(partitions, timestamp))
        by_node: dict[int, list[int]] = {}
        for segment in view.sealed:
            if ALL_PARTITIONS in partitions or segment.partition_id in partitions:
                for node_id in view.placement[segment.segment_id]:
                    copy = (segment.segment_id, node_id)
                    if node_id not in shard.lost_nodes if only is None else copy in only:
                        by_node.setdefault(node_id, []).append(segment.segment_id)
        told = await asyncio.gather(
            *(
                self._tell(shard, node_id, tuple(segment_ids), deletes, timestamp)
                for node_id, segment_ids in by_node.items()
            )
        )
        if shard.lost_nodes and shard.repair_task is None:
            shard.repair_task = self._world.tasks.spawn(
                f"repeat deletes of {shard.vchannel}", self._repair(shard)
            )
        return all(told)

    async def _tell(
        self,
        shard: Shard,
        node_id: int,
        segment_ids: tuple[int, ...],
        deletes: tuple[PrimaryKeys, ...],
        timestamp: int,
    ) -> bool:
        try:
            node = await self._router.query_node(node_id)
            await node.apply_deletes(segment_ids, deletes, timestamp)
        except ElanusError as error:
            missed_ts = shard.lost_nodes.get(node_id, timestamp)
            shard.lost_nodes[node_id] = min(missed_ts, timestamp - 1)
            shard.offer = None
            log.warning(
                "query node missed deletes",
                vchannel=shard.vchannel,
                node=node_id,
                error=str(error),
            )
            return False
        return True

    async def check_known(self, copies: Iterable[Copy]) -> None:
        """Raises Unavailable if this node has not heard of a copy's query node yet."""
        for node_id in sorted({node_id for _, node_id in copies}):
            await self._router.query_node(node_id)

    async def _repair(self, shard: Shard) -> None:
        pause_s = _FIRST_REPAIR_PAUSE_S
        try:
            while shard.lost_nodes and not shard.closed:
                await self._world.clock.sleep(pause_s)
                pause_s = min(_LONGEST_REPAIR_PAUSE_S, pause_s * 2)
                # Writes wait while it is repeated, so first see whether there is somebody to tell.
                asked = [self._can_be_told(shard, node_id) for node_id in shard.lost_nodes]
                if any(await asyncio.gather(*asked)):
                    async with shard.view_lock:
                        await self.repeat_missed(shard)
        finally:
            shard.repair_task = None

    async def _can_be_told(self, shard: Shard, node_id: int) -> bool:
        """Whether the node answers, or holds nothing of the view that it would have to be told."""
        view = shard.view
        if view is not None and not any(node_id in nodes for nodes in view.placement.values()):
            return True
        try:
            await (await self._router.query_node(node_id)).list_segments()
        except ElanusError:
            return False
        return True

    async def repeat_missed(self, shard: Shard) -> None:
        """Tell the lost nodes what they have missed; those that hear all of it are lost no more.
        The caller holds the view lock."""
        async with shard.apply_lock:
            for node_id, after_ts in list(shard.lost_nodes.items()):
                view = shard.view
                if view is not None and await self._repeat(shard, view, node_id, after_ts):
                    del shard.lost_nodes[node_id]

    async def _repeat(self, shard: Shard, view: QueryView, node_id: int, after_ts: int) -> bool:
        here = frozenset((i, node_id) for i, nodes in view.placement.items() if node_id in nodes)
        for entry in shard.deletes.after(after_ts):
            if not await self.send_deletes(shard, view, entry.deletes, entry.timestamp, here):
                return False
        return True


def apply_to_growing(jobs: Sequence[tuple[Apply, tuple[Growing, ...]]]) -> None:
    """Deletes, then rows, of each write in turn. ``jobs``: each write with the segments that it
    may delete from. Runs in a thread; only one such call per pchannel runs at a time."""
    for write, growing in jobs:
        apply_deletes_to(growing, write.request.deletes, write.timestamp)
        for part, each in zip(write.request.inserts, write.segments, strict=True):
            each.segment.append(part.rows, write.timestamp)


def apply_deletes_to(
    growing: Iterable[Growing], deletes: Sequence[PrimaryKeys], timestamp: int
) -> None:
    for deleted in deletes:
        for each in growing:
            if deleted.partition_id in (ALL_PARTITIONS, each.partition_id):
                each.segment.delete(deleted.keys, timestamp)


def note_applied(write: Apply) -> None:
    """The bookkeeping of the rows that are in."""
    for part, growing in zip(write.request.inserts, write.segments, strict=True):
        growing.note_rows(write.position, write.timestamp, int(part.rows.nbytes))


def buffer_deletes(write: Apply) -> None:
    write.shard.deletes.append(
        BufferedDelete(write.timestamp, write.position, write.request.deletes)
    )


def _cost_bytes(write: Apply) -> int:
    """Bytes to copy; what every write and every key to delete costs is put into bytes, too."""
    rows = sum(int(part.rows.nbytes) for part in write.request.inserts)
    keys = sum(len(part.keys) for part in write.request.deletes)
    return _BYTES_PER_WRITE + rows + 64 * keys * max(1, len(write.shard.growing))
