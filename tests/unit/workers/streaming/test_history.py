"""Random histories of one shard against a dictionary: every instant since the last restart, and
the present after it, reads as the oracle says, whatever was flushed, loaded or crashed."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.workers.streaming.harness import Server, with_segment

from elanus.config.settings import Settings

IDS = st.integers(0, 12)
ROWS = st.dictionaries(IDS, st.integers(-100, 100), max_size=6)


class ShardHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.expected: dict[int, int] = {}
        self.instants: list[tuple[int, dict[int, int]]] = []
        self.loaded = True

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    @initialize(full_at=st.sampled_from([0.0001, 0.25]))
    def start(self, full_at: float) -> None:
        async def begin() -> None:
            rules = with_segment(Settings(), max_size=1, seal_proportion=full_at)
            self.server = await Server(Path(self.directory.name), settings=rules).start()
            self.things = await self.server.create(partitions=2)

        self.run(begin())

    def note(self, timestamp: int) -> None:
        self.instants.append((timestamp, dict(self.expected)))

    @rule(rows=ROWS)
    def upsert(self, rows: dict[int, int]) -> None:
        if rows:
            timestamp = self.run(self.server.upsert(self.things, rows))
            self.expected |= rows
            self.note(timestamp)

    @rule(ids=st.sets(IDS, min_size=1, max_size=5))
    def delete(self, ids: set[int]) -> None:
        timestamp = self.run(self.server.write(self.things, deletes=sorted(ids)))
        self.expected = {k: v for k, v in self.expected.items() if k not in ids}
        self.note(timestamp)

    @rule(many=st.lists(ROWS.filter(bool), min_size=2, max_size=5))
    def upsert_at_once(self, many: list[dict[int, int]]) -> None:
        async def together() -> list[int]:
            return await asyncio.gather(*(self.server.upsert(self.things, rows) for rows in many))

        stamps = self.run(together())
        for timestamp, rows in sorted(zip(stamps, many, strict=True), key=lambda pair: pair[0]):
            self.expected |= rows
            self.note(timestamp)

    @rule()
    def seal(self) -> None:
        self.run(self.server.streaming.seal(self.things.vchannels[0]))

    @rule()
    def flush(self) -> None:
        self.run(self.server.flush(self.things))

    @rule(turns=st.integers(1, 40))
    def let_others_work(self, turns: int) -> None:
        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run(turn())

    @rule()
    def crash(self) -> None:
        async def again() -> None:
            await self.server.crash()
            self.server = await self.server.restarted()
            if self.loaded:
                await self.server.wait_loaded(self.things)

        self.run(again())

    @rule()
    def release_or_load(self) -> None:
        if self.loaded:
            self.run(self.server.coordinator.release(self.things.collection_id, ()))
        else:
            self.run(self.server.load(self.things))
        self.loaded = not self.loaded

    @rule(data=st.data())
    def read_an_older_instant(self, data: st.DataObject) -> None:
        if self.loaded and self.instants:
            timestamp, expected = data.draw(st.sampled_from(self.instants))
            assert self.run(self.server.contents(self.things, timestamp)) == expected

    @rule(value=st.integers(-100, 100))
    def search(self, value: int) -> None:
        if not self.loaded:
            return
        found = self.run(self.server.search(self.things, value, top_k=20))
        scores = {key: 4.0 * (value - stored) ** 2 for key, stored in self.expected.items()}
        assert found.hits.keys.tolist() == sorted(scores, key=lambda key: (scores[key], key))
        assert found.rows.column("value").to_pylist() == [
            self.expected[key] for key in found.hits.keys.tolist()
        ]

    @invariant()
    def the_present_is_as_expected(self) -> None:
        if self.loaded and hasattr(self, "server"):
            assert self.run(self.server.contents(self.things)) == self.expected
            assert self.run(self.server.count(self.things)) == len(self.expected)

    def teardown(self) -> None:
        if hasattr(self, "server"):
            assert not self.server.world.tasks.failures
            self.run(self.server.stop())
        self.runner.close()
        self.directory.cleanup()


TestShardHistory = ShardHistory.TestCase
TestShardHistory.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
