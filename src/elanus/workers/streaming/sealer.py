"""Seals growing segments that grow old, idle, or too much for the memory.

Each shard with growing rows has one timer that sleeps until a segment may be due; a shard without
has none. The memory rule is looked at whenever rows have come.
"""

from collections.abc import Callable

import structlog

from elanus.config.settings import Settings
from elanus.errors import ElanusError
from elanus.runtime.world import World
from elanus.workers.streaming.pchannel import Pchannel
from elanus.workers.streaming.seal_policy import SealLimits, due, next_check_ms, relieve_memory
from elanus.workers.streaming.shard import Shard

log = structlog.get_logger(__name__)


class Sealer:
    """See the module. ``shards`` lists every shard of the node with its pchannel."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        shards: Callable[[], list[tuple[Pchannel, Shard]]],
    ) -> None:
        self._world = world
        self._shards = shards
        self._limits = SealLimits.of(settings.data_coord.segment)
        self._growing_limit_bytes = int(
            world.memory.limit_bytes * settings.streaming.growing_memory_ratio
        )
        self._relieving = False

    def watch(self, pchannel: Pchannel, shard: Shard) -> None:
        """Rows came to ``shard``."""
        if shard.seal_timer is None and shard.growing_states():
            shard.seal_timer = self._world.tasks.spawn(
                f"seal timer {shard.vchannel}", self._run_timer(pchannel, shard)
            )
        used_bytes = self._world.memory.used_by_category().get("growing", 0)
        if used_bytes > self._growing_limit_bytes and not self._relieving:
            self._relieving = True
            self._world.tasks.spawn("relieve memory", self._relieve())

    async def _run_timer(self, pchannel: Pchannel, shard: Shard) -> None:
        try:
            while not shard.closed and pchannel.broken is None:
                at_ms = next_check_ms(shard.growing_states(), self._limits)
                if at_ms is None:
                    return
                wait_ms = at_ms - self._world.clock.now_ms()
                if wait_ms > 0:
                    # Rows that come meanwhile can make the idle rule count earlier.
                    await self._world.clock.sleep(min(wait_ms, self._limits.max_idle_ms) / 1000)
                    continue
                now_ms = self._world.clock.now_ms()
                await self._seal(pchannel, shard, due(shard.growing_states(), self._limits, now_ms))
        finally:
            shard.seal_timer = None

    async def _relieve(self) -> None:
        try:
            shards = self._shards()
            owner = {
                state.segment_id: (pchannel, shard, state)
                for pchannel, shard in shards
                for state in shard.growing_states()
            }
            states = [state for _, _, state in owner.values()]
            used_bytes = sum(state.size_bytes for state in states)
            for segment_id in relieve_memory(states, used_bytes, self._growing_limit_bytes):
                pchannel, shard, _ = owner[segment_id]
                await self._seal(pchannel, shard, [segment_id])
        finally:
            self._relieving = False

    async def _seal(self, pchannel: Pchannel, shard: Shard, segment_ids: list[int]) -> None:
        if not segment_ids:
            return
        try:
            await pchannel.seal(shard, tuple(segment_ids))
        except ElanusError as error:
            log.warning("not sealed now", vchannel=shard.vchannel, error=str(error))
            await self._world.clock.sleep(1.0)
