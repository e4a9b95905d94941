"""Which copy of a sealed segment a read asks, and what happens when that one can't answer.

A read goes to few nodes and always to the same ones for the same copies: each segment to the first
node that holds it, in an order that begins with the nodes that have the fewest reads in flight;
equal ones take turns. Nodes that failed a moment ago come last. A part of a read whose node fails
is asked again of the other copies within the same read, until none is left. A part whose node is
late is asked of the others as well (``hedging``): the first answer counts, the other call is
cancelled. So neither a dead nor a frozen node holds a read.

A node that has missed deletes of a shard is not asked: it would show deleted rows.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from elanus.errors import DeadlineExceeded, Unavailable
from elanus.runtime.world import World
from elanus.services.hedging import Hedging
from elanus.services.interfaces import QueryNodeService
from elanus.services.local import LocalQueryNode
from elanus.services.routing import Router

log = structlog.get_logger(__name__)

SUSPECT_S = (1.0, 16.0)
"""Time for which a node that failed or was late is asked only if no other one has a copy: at first,
and at most if that repeats."""

MAX_REMEMBERED = 1_000
"""Nodes, former ones included."""

T = TypeVar("T")
Ask = Callable[[QueryNodeService, tuple[int, ...]], Awaitable[T]]
"""Asks a query node about these segments."""


class Copies:
    """The copies that one read may ask: ``placement`` without the ``lost`` nodes, and without
    those that have failed in it. ``only_node``: if it isn't None, no other has a copy of what is
    read. ``asked``: the node that answered for a segment."""

    def __init__(
        self,
        vchannel: str,
        placement: Mapping[int, Sequence[int]],
        lost: Collection[int],
        only_node: int | None = None,
    ) -> None:
        self.vchannel = vchannel
        self._placement = placement
        self._avoided = set(lost)
        self._only_node = only_node
        self.asked: dict[int, int] = {}

    def without(self, node_id: int) -> "Copies":
        """The same copies but for those of a node."""
        return Copies(self.vchannel, self._placement, self._avoided | {node_id})

    def has_others(self, segment_ids: Iterable[int], node_id: int) -> bool:
        """Whether each of the segments has a copy on another node."""
        avoided = self._avoided | {node_id}
        return all(any(n not in avoided for n in self._placement[each]) for each in segment_ids)

    def only_node_of(self, segment_ids: Sequence[int]) -> int | None:
        """The node that alone may be asked about the segments, if there are any. Raises
        Unavailable as ``of`` does."""
        if self._only_node is not None and not self._avoided:
            return self._only_node if segment_ids else None
        nodes = {node_id for segment_id in segment_ids for node_id in self.of(segment_id)}
        return nodes.pop() if len(nodes) == 1 else None

    def of(self, segment_id: int) -> list[int]:
        """Nodes that may be asked. Raises Unavailable if there is none."""
        nodes = [n for n in self._placement[segment_id] if n not in self._avoided]
        if not nodes:
            raise Unavailable(
                f"no copy of segment {segment_id} of {self.vchannel} can be read, of those on the "
                f"query nodes {list(self._placement[segment_id])}"
            )
        return nodes

    def avoid(self, node_id: int) -> None:
        self._avoided.add(node_id)


class ReplicaReader:
    """Spreads the reads of this node's shards over the copies."""

    def __init__(self, world: World, router: Router) -> None:
        self._world = world
        self._router = router
        self._in_flight: Counter[int] = Counter()
        self._reads = 0
        self._last_read: dict[int, int] = {}
        self._suspects: dict[int, tuple[float, float]] = {}
        self._hedging = Hedging(world.clock)

    async def local_node(self, copies: Copies, segment_ids: Sequence[int]) -> LocalQueryNode | None:
        """The node of this process, if no other may be asked about any of the segments. Raises
        Unavailable when a segment has no copy left, or when nobody serves yet."""
        node_id = copies.only_node_of(segment_ids)
        if node_id is None:
            return None
        node = await self._router.query_node(node_id)
        return node if isinstance(node, LocalQueryNode) else None

    async def read(
        self, copies: Copies, segment_ids: Iterable[int], ask: Ask[T]
    ) -> list[tuple[tuple[int, ...], T]]:
        """(segments, answer) of each call. Raises Unavailable when a segment has no copy left."""
        groups = list(self._choose(copies, segment_ids).items())
        if len(groups) == 1:
            return await self._read_node(copies, *groups[0], ask)
        answers = await asyncio.gather(
            *(self._read_node(copies, node_id, ids, ask) for node_id, ids in groups)
        )
        return [answer for part in answers for answer in part]

    async def _read_node(
        self, copies: Copies, node_id: int, segment_ids: list[int], ask: Ask[T]
    ) -> list[tuple[tuple[int, ...], T]]:
        asked = tuple(segment_ids)
        try:
            if copies.has_others(asked, node_id):
                return await self._ask_hedged(copies, node_id, asked, ask)
            return await self._ask(copies, node_id, asked, ask)
        except (Unavailable, DeadlineExceeded) as error:
            copies.avoid(node_id)
            failure = error
        try:
            # Each failure rules a node out, so this ends.
            return await self.read(copies, segment_ids, ask)
        except Unavailable as none_left:
            message = f"query node {node_id} failed a read: {failure.message}"
            raise Unavailable(message) from none_left

    async def _ask(
        self, copies: Copies, node_id: int, asked: tuple[int, ...], ask: Ask[T]
    ) -> list[tuple[tuple[int, ...], T]]:
        """Asks this node and no other."""
        started_s = self._world.clock.monotonic_s()
        self._started(node_id)
        try:
            answer = await ask(await self._router.query_node(node_id), asked)
        except (Unavailable, DeadlineExceeded) as error:
            self._suspect(node_id)
            log.info("query node failed a read", node_id=node_id, reason=error.message)
            raise
        finally:
            self._ended(node_id)
        self._suspects.pop(node_id, None)
        self._hedging.note(self._world.clock.monotonic_s() - started_s)
        copies.asked.update(dict.fromkeys(asked, node_id))
        return [(asked, answer)]

    async def _ask_hedged(
        self, copies: Copies, node_id: int, asked: tuple[int, ...], ask: Ask[T]
    ) -> list[tuple[tuple[int, ...], T]]:
        """Asks this node, and if it is late the others too. Raises what the last of them raises."""
        first = asyncio.create_task(self._ask(copies, node_id, asked, ask))
        calls = {first}
        try:
            done, _ = await asyncio.wait(calls, timeout=self._hedging.delay_s)
            if done or not self._hedging.may_hedge():
                return await first
            others = copies.without(node_id)
            calls.add(asyncio.create_task(self.read(others, asked, ask)))
            winner = await _first_to_succeed(calls)
            if winner is not first:
                if not first.done():
                    log.info("query node is late", node_id=node_id)
                    self._suspect(node_id)
                copies.asked.update(others.asked)
            return winner.result()
        finally:
            for call in calls:
                call.cancel()
                call.add_done_callback(_notice)

    def _choose(self, copies: Copies, segment_ids: Iterable[int]) -> dict[int, list[int]]:
        """Node → the segments that it is asked about."""
        candidates = {segment_id: copies.of(segment_id) for segment_id in segment_ids}
        now_s = self._world.clock.monotonic_s()

        def rank(node_id: int) -> tuple[bool, int, int, int]:
            until_s, _ = self._suspects.get(node_id, (now_s, 0.0))
            is_suspect = until_s > now_s
            return is_suspect, self._in_flight[node_id], self._last_read.get(node_id, 0), node_id

        order = sorted({node for nodes in candidates.values() for node in nodes}, key=rank)
        place = {node_id: n for n, node_id in enumerate(order)}
        chosen: dict[int, list[int]] = {}
        for segment_id, nodes in candidates.items():
            node_id = copies.asked.get(segment_id)
            if node_id not in nodes:
                node_id = min(nodes, key=place.__getitem__)
            chosen.setdefault(node_id, []).append(segment_id)
        return chosen

    def _started(self, node_id: int) -> None:
        self._in_flight[node_id] += 1
        self._reads += 1
        if len(self._last_read) >= MAX_REMEMBERED:
            self._last_read.clear()
        self._last_read[node_id] = self._reads

    def _ended(self, node_id: int) -> None:
        self._in_flight[node_id] -= 1
        if not self._in_flight[node_id]:
            del self._in_flight[node_id]

    def _suspect(self, node_id: int) -> None:
        if len(self._suspects) >= MAX_REMEMBERED:
            self._suspects.clear()
        first_s, longest_s = SUSPECT_S
        now_s = self._world.clock.monotonic_s()
        until_s, pause_s = self._suspects.get(node_id, (0.0, first_s / 2))
        if until_s <= now_s:
            pause_s = min(longest_s, 2 * pause_s)
            self._suspects[node_id] = now_s + pause_s, pause_s


async def _first_to_succeed(calls: set[asyncio.Task[T]]) -> asyncio.Task[T]:
    """The first that ends; of those whose failure another copy makes up for, the last."""
    left = set(calls)
    while True:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for call in done:
            if not isinstance(call.exception(), (Unavailable, DeadlineExceeded)):
                return call
        if not left:
            return done.pop()


def _notice(call: asyncio.Task[Any]) -> None:
    # Of a call that lost nobody asks what became of it.
    if not call.cancelled():
        call.exception()
