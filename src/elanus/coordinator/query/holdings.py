"""What query nodes really hold, compared with what the coordinator believes.

A coordinator that begins to lead asks for it, so that copies loaded by a former one are used where
they are. From then on it compares now and then: a copy that no loaded shard uses is released, one
that a shard believes in and that is not there is loaded again. Nothing else would ever notice
either: the answer to a load or a release may be lost together with the one that waited for it.
"""

import asyncio
from collections.abc import Iterable

import structlog

from elanus.coordinator.context import Context
from elanus.coordinator.query.loads import Held, Loads
from elanus.errors import ElanusError
from elanus.model.catalog import SegmentInfo

log = structlog.get_logger(__name__)

COMPARE_EVERY_S = 10.0
"""Time in which every node is compared once ..."""

MIN_PAUSE_S = 0.05
"""... unless there are so many that this, between two of them, makes it longer."""

NODES_PER_TURN = 16
"""Nodes that a new leader asks before the event loop has its turn."""

NOBODY = -1
FIRST_ANSWER_S = 2.0
"""A coordinator that begins to lead waits for no node longer than this: it may be lost as well."""


class Holdings:
    def __init__(self, context: Context, loads: Loads) -> None:
        self._context = context
        self._loads = loads

    async def all_held(self) -> Held:
        """Everything that is loaded. A node that doesn't answer is left out: what it holds is
        found by a later comparison."""
        nodes = await self._context.router.query_nodes(stopping=True)
        by_collection: Held = {}
        asked = []
        for number, node_id in enumerate(nodes):
            asked.append(self._context.world.tasks.spawn("holdings", self._held_by(node_id)))
            if number % NODES_PER_TURN == 0:
                await asyncio.sleep(0)
        for node_id, answer in zip(nodes, asked, strict=True):
            for segment in await answer:
                by_collection.setdefault(segment.collection_id, []).append((node_id, segment))
            await asyncio.sleep(0)
        return by_collection

    async def compare_for_ever(self) -> None:
        clock = self._context.world.clock
        looked_s = clock.monotonic_s()
        while True:
            nodes = await self._context.router.query_nodes(stopping=True)
            for node_id in nodes or [NOBODY]:
                await clock.sleep(max(COMPARE_EVERY_S / max(1, len(nodes)), MIN_PAUSE_S))
                if node_id != NOBODY:
                    await self.compare(node_id)
            interval_s = self._context.settings.query_coord.balance_interval_seconds
            if clock.monotonic_s() >= looked_s + interval_s:
                looked_s = clock.monotonic_s()
                self._loads.look_for_unevenness()

    async def compare(self, node_id: int) -> None:
        """Once, for one node."""
        believed = self._loads.believed(node_id)
        try:
            node = await self._context.router.query_node(node_id)
            held = await node.list_segments()
            here = {segment.segment_id for segment in held}
            lost = [
                (segment_id, shard.collection_id)
                for segment_id, shard, copy in believed
                if segment_id not in here and shard.lose(node_id, segment_id, copy)
            ]
            if lost:
                segments = [segment_id for segment_id, _ in lost]
                log.warning("loaded segments are missing", node_id=node_id, segments=segments)
                for collection_id in {collection_id for _, collection_id in lost}:
                    self._loads.wake(collection_id)
            strangers = tuple(sorted(self._strangers(node_id, held)))
            if strangers:
                log.info("segments released that nobody uses", node_id=node_id, segments=strangers)
                await node.release_segments(strangers)
        except ElanusError as error:
            log.info("holdings not compared", node_id=node_id, reason=error.message)

    def _strangers(self, node_id: int, held: Iterable[SegmentInfo]) -> list[int]:
        return [s.segment_id for s in held if self._loads.is_stranger(node_id, s)]

    async def _held_by(self, node_id: int) -> list[SegmentInfo]:
        try:
            node = await self._context.router.query_node(node_id)
            async with asyncio.timeout(FIRST_ANSWER_S):
                return await node.list_segments()
        except ElanusError as error:
            log.info("holdings not known", node_id=node_id, reason=error.message)
        except TimeoutError:
            log.info("holdings not known", node_id=node_id, reason="no answer yet")
        return []
