"""Random interleavings of searches by a view with writes, deletes, hand-offs and moves of segments:
every answer is that of its instant, and holds all that was acknowledged before it was asked for."""

import asyncio
import contextlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.access.dql.test_direct import Proxy
from tests.unit.workers.streaming.harness import Server, eventually

from elanus.errors import Unavailable
from elanus.services.messages import SearchResponse

TURNS = st.integers(0, 30)
KEYS = st.sets(st.integers(0, 15), min_size=1, max_size=3)
ACTIONS = st.one_of(
    st.tuples(st.just("upsert"), KEYS, st.integers(0, 50)),
    st.tuples(st.just("delete"), KEYS, st.just(0)),
    st.tuples(st.sampled_from(["flush", "move", "lose", "find"]), st.just(()), st.just(0)),
)
ROUNDS = st.lists(
    st.tuples(
        st.lists(st.tuples(TURNS, ACTIONS), max_size=4),
        st.lists(st.tuples(TURNS, st.integers(0, 50)), min_size=1, max_size=3),
    ),
    min_size=3,
    max_size=8,
)
DELAYS = st.lists(st.integers(0, 25), min_size=1, max_size=20)


class Slow:
    """Its searches wait some turns of the event loop before and after."""

    def __init__(self, target: Any, world: "Interleaved") -> None:
        self._target = target
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    async def search(self, request: Any) -> Any:
        await self._world.pass_turns()
        answer = await self._target.search(request)
        await self._world.pass_turns()
        return answer


class Interleaved:
    """One server and what was written to it."""

    def __init__(self, delays: list[int]) -> None:
        self._delays = delays
        self._next = 0
        self.writes: list[tuple[int, set[int], dict[int, int]]] = []
        self.counts: Counter[str] = Counter()

    async def pass_turns(self) -> None:
        self._next += 1
        await turns(self._delays[self._next % len(self._delays)])

    async def run(self, directory: Path, rounds: list[Any]) -> None:
        self.server = await Server(directory, query_nodes=2).start()
        try:
            self.things = await self.server.create(load=False)
            await self._write(set(), {n: n for n in range(12)})
            await self.server.flush(self.things)
            await self.server.load(self.things)
            self.proxy = Proxy(self.server, self.things)
            self.proxy.direct._hedging.delay_s = 60.0
            self.proxy.owner = Slow(self.server.streaming, self)
            for node_id in (1, 2):
                node = await self.server.router.query_node(node_id)
                self.proxy.nodes[node_id] = Slow(node, self)
            for actions, searches in rounds:
                await self._know_the_view()
                await asyncio.gather(
                    *(self._act(after, action) for after, action in actions),
                    *(self._search(after, value) for after, value in searches),
                )
        finally:
            await self.server.stop()
        assert not self.server.world.tasks.failures
        self.counts += self.proxy.direct.counts

    async def _know_the_view(self) -> None:
        """So that the searches of a round are by the view that there is when it begins."""
        shards = self.proxy.direct._shards
        shards.clear()
        for _ in range(3):
            with contextlib.suppress(Unavailable):
                await self._ask(0)
            await turns(10)

    async def _ask(self, value: int) -> SearchResponse:
        request = self.proxy.request(value, top_k=50)
        owner = self.server.streaming
        return await self.proxy.direct.search(owner, request, self.things.schema)

    async def _act(self, after: int, action: tuple[str, set[int], int]) -> None:
        await turns(after)
        kind, keys, value = action
        match kind:
            case "upsert":
                await self._write(keys, {key: value + key for key in keys})
            case "delete":
                await self._write(keys, {})
            case "flush":
                await self.server.flush(self.things)
            case "move":
                stopping = self.server.router.stopping
                self.server.router.stopping = {1} if stopping != {1} else {2}
                self.server.coordinator.query_nodes_changed()
            case "lose":
                self.server.router.down = {1}
            case "find":
                self.server.router.down = set()

    async def _write(self, deletes: set[int], rows: dict[int, int]) -> None:
        timestamp = await self.server.write(self.things, rows, sorted(deletes))
        self.writes.append((timestamp, deletes, rows))

    async def _search(self, after: int, value: int) -> None:
        await turns(after)
        acknowledged = max(timestamp for timestamp, _, _ in self.writes)
        try:
            answer = await self.proxy.search(value, top_k=50)
        except Unavailable:
            return  # nobody has what is asked for at the moment
        assert answer.read_ts >= acknowledged
        found = dict(
            zip(answer.hits.keys.tolist(), answer.rows.column("value").to_pylist(), strict=True)
        )
        assert len(found) == len(answer.hits.keys)
        # Writes at the same time may be noted a little later than they are seen.
        await eventually(self._is_known)
        assert found == self._at(answer.read_ts)

    async def _is_known(self) -> bool:
        await turns(50)
        return True

    def _at(self, read_ts: int) -> dict[int, int]:
        rows: dict[int, int] = {}
        for timestamp, deletes, inserts in sorted(self.writes, key=lambda write: write[0]):
            if timestamp <= read_ts:
                rows = {key: value for key, value in rows.items() if key not in deletes} | inserts
        return rows


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


seen: Counter[str] = Counter()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rounds=ROUNDS, delays=DELAYS)
def test_every_answer_is_that_of_its_instant(rounds: list[Any], delays: list[int]) -> None:
    interleaved = Interleaved(delays)
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(interleaved.run(Path(directory), rounds))
    seen.update(interleaved.counts)


def test_the_interleavings_had_direct_searches_and_such_that_were_made_again() -> None:
    assert seen["direct"] > 50
    assert seen["changed"] > 0
