"""The quotas of one process that is the whole cluster."""

from elanus.access.limits.shares import Shares
from elanus.coordinator.coordinator import Coordinator
from elanus.coordinator.quotas import MemoryReading
from elanus.runtime.world import World


async def keep_quotas(
    world: World, coordinator: Coordinator, shares: Shares, node_id: int, interval_s: float
) -> None:
    """For ever: tell the proxy's ``shares`` what is short."""
    while True:
        used, limit = world.memory.used_bytes, world.memory.limit_bytes
        readings = [
            MemoryReading(node_id, holds_growing, used, limit) for holds_growing in (True, False)
        ]
        shares.hear(await coordinator.quota_notice(readings, proxies=1))
        await world.clock.sleep(interval_s)
