"""The query nodes as loading sees them: how full each will be, and what it held before.

Every shard tells its plan before it acts on it, so that two shards don't fill the same node. A node
is asked once what it holds: copies that an earlier coordinator had made are taken over by the shard
that they belong to, which uses or releases them; nothing stays loaded that nobody knows.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog

from elanus.coordinator.context import Context
from elanus.coordinator.retry import delay_s
from elanus.errors import ElanusError
from elanus.model.catalog import SegmentInfo

log = structlog.get_logger(__name__)

Adopt = Callable[[int, Sequence[SegmentInfo]], bool]
"""Takes over what a node holds; False: ask it again later."""


class Fleet:
    """See the module."""

    def __init__(self, context: Context, adopt: Adopt) -> None:
        self._context = context
        self._adopt = adopt
        self._met: set[int] = set()
        self._meeting = asyncio.Lock()
        self._planned: dict[str, Mapping[int, int]] = {}
        self._task: asyncio.Task[None] | None = None

    # --- plans ----------------------------------------------------------------------------------

    def rows_elsewhere(self, vchannel: str) -> dict[int, int]:
        """Rows by node that all other shards have or are about to have there."""
        rows: Counter[int] = Counter()
        for name, planned in self._planned.items():
            if name != vchannel:
                rows.update(planned)
        return dict(rows)

    def plan(self, vchannel: str, rows: Mapping[int, int]) -> None:
        self._planned[vchannel] = rows

    def forget(self, vchannel: str) -> None:
        self._planned.pop(vchannel, None)

    # --- what is there --------------------------------------------------------------------------

    def meet_in_background(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._context.world.tasks.spawn("meet query nodes", self._meet_all())

    async def _meet_all(self) -> None:
        failures = 0
        while not await self.meet():
            failures += 1
            await self._context.world.clock.sleep(delay_s(self._context.world, failures))

    async def meet(self) -> bool:
        """Ask the nodes that weren't asked yet; False if one did not answer."""
        async with self._meeting:
            alive = await self._context.router.query_nodes(stopping=True)
            self._met.intersection_update(alive)
            for node_id in alive:
                if node_id not in self._met:
                    await self._meet_one(node_id)
            return self._met.issuperset(alive)

    async def _meet_one(self, node_id: int) -> None:
        try:
            node = await self._context.router.query_node(node_id)
            held = await node.list_segments()
        except ElanusError as error:
            log.info("query node not asked yet", node_id=node_id, reason=error.message)
            return
        if self._adopt(node_id, held):
            self._met.add(node_id)
