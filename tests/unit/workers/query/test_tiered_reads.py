"""Reads of more than the local cache holds, against an oracle that has all rows in memory."""

import asyncio
import contextlib
import gc
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workers.query.tiered import SCHEMA, SEGMENTS, Bench, bench, data

from elanus.engine.filter.compile import compile_filter
from elanus.errors import CorruptData, ResourceInsufficient, Unavailable
from elanus.model.catalog import ALL_PARTITIONS
from elanus.model.reads import Snapshot, VectorQuery
from elanus.model.types import MetricType
from elanus.services.messages import FetchRows, PrimaryKeys, SegmentQuery, SegmentSearch

SMALL_BYTES = 80_000
"""Of about 210,000: the largest segment fits beside the keys and timestamps of all."""
LARGE_BYTES = 1 << 20
NEVER = np.iinfo(np.uint64).max
ALL = tuple(range(1, SEGMENTS + 1))

FILTERS: dict[str, Callable[[], np.ndarray]] = {
    "": lambda: np.ones(len(data().ids), bool),
    "value < 30": lambda: data().values < 30,
    "plain >= 50": lambda: data().values >= 50,
    'text_match(words, "fox")': lambda: np.char.find(data().words, "fox") >= 0,
    'value > 10 and text_match(words, "apple")': lambda: (
        (data().values > 10) & (np.char.find(data().words, "apple") >= 0)
    ),
    "id < 3": lambda: data().ids < 3,
    "value > 200": lambda: np.zeros(len(data().ids), bool),
    "id in [3, 500, 777]": lambda: np.isin(data().ids, [3, 500, 777]),
}
OUTPUTS = ((), ("plain",), ("id", "words", "vector"))


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Where no event loop runs."""
    data()


class Oracle:
    """What a node has, and answers worked out the slow way."""

    def __init__(self) -> None:
        self.deleted = np.full(len(data().ids), NEVER, np.uint64)

    def visible(self, expression: str, segments: Sequence[int], read_ts: int) -> np.ndarray:
        in_segments = np.isin(data().ids % SEGMENTS + 1, segments)
        return FILTERS[expression]() & in_segments & (self.deleted > read_ts)

    def nearest(self, vector: np.ndarray, visible: np.ndarray, top_k: int) -> list[int]:
        rows = np.flatnonzero(visible)
        distances = ((data().vectors[rows] - vector) ** 2).sum(axis=1)
        return rows[np.argsort(distances, kind="stable")[:top_k]].tolist()


def search(vector: np.ndarray, read_ts: int, expression: str = "", **more: Any) -> SegmentSearch:
    plan = compile_filter(expression, SCHEMA) if expression else None
    asked = VectorQuery("vector", MetricType.L2, vector[None, :], 5, {"nprobe": 4})
    return SegmentSearch(more.pop("segments", ALL), asked, Snapshot(read_ts), plan, **more)


def rows_as_they_are(ids: list[int], names: tuple[str, ...]) -> dict[str, list[Any]]:
    columns = {
        "id": data().ids,
        "plain": data().values,
        "words": data().words,
        "vector": data().vectors,
    }
    return {name: columns[name][ids].tolist() for name in names}


class Player:
    """Plays one history on a node."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.random = random.Random(seed)
        self.oracle = Oracle()
        self.loaded: set[int] = set()
        self.versions = dict.fromkeys(ALL, 0)
        self.now = 10_000

    async def load(self) -> None:
        """Anew, or a newer version of what is loaded."""
        number = self.random.randrange(SEGMENTS)
        self.versions[number + 1] += 1
        request = data().request(number, self.versions[number + 1])
        assert await self.bench.node.load_segment(request) == ()
        if number + 1 not in self.loaded:
            await self._bring_deletes(number + 1)
            self.loaded.add(number + 1)

    async def _bring_deletes(self, segment_id: int) -> None:
        deleted = self.oracle.deleted
        for row in np.flatnonzero((deleted != NEVER) & (data().ids % SEGMENTS + 1 == segment_id)):
            keys = (PrimaryKeys(pa.array([row]), ALL_PARTITIONS),)
            await self.bench.node.apply_deletes((segment_id,), keys, int(deleted[row]))

    async def release(self) -> None:
        segment_id = self.random.choice(ALL)
        self.loaded.discard(segment_id)
        await self.bench.node.release_segments((segment_id,))

    async def delete(self) -> None:
        self.now += 1
        rows = self.random.sample(range(len(data().ids)), 20)
        alive = [row for row in rows if self.oracle.deleted[row] == NEVER]
        self.oracle.deleted[alive] = self.now
        keys = (PrimaryKeys(pa.array(alive, pa.int64()), ALL_PARTITIONS),)
        await self.bench.node.apply_deletes(ALL, keys, self.now)

    async def read(self) -> None:
        """Reads at the same time, of all kinds, while rows are deleted behind their instant."""
        reads = [self.search(self.now) for _ in range(3)]
        reads += [self.query(self.now), self.count(self.now)]
        await asyncio.gather(*reads, self.delete())

    def _asked(self) -> tuple[str, tuple[int, ...]]:
        count = self.random.randint(0, len(self.loaded))
        segments = self.random.sample(sorted(self.loaded), count)
        return self.random.choice(list(FILTERS)), tuple(segments)

    async def search(self, read_ts: int) -> None:
        (expression, segments), names = self._asked(), self.random.choice(OUTPUTS)
        if not segments:
            return
        vector = data().vectors[self.random.randrange(len(data().ids))]
        expected = self.oracle.nearest(
            vector, self.oracle.visible(expression, segments, read_ts), 5
        )
        hits = await self.bench.node.search(
            search(vector, read_ts, expression, segments=segments, output_fields=names)
        )
        assert np.asarray(hits.keys).tolist() == expected
        if names and expected:
            assert hits.rows is not None
            assert hits.rows.to_pydict() == rows_as_they_are(expected, names)

    async def query(self, read_ts: int) -> None:
        (expression, segments), names = self._asked(), self.random.choice(OUTPUTS)
        visible = self.oracle.visible(expression, segments, read_ts)
        expected = np.flatnonzero(visible).tolist()
        plan = compile_filter(expression, SCHEMA) if expression else None
        found = await self.bench.node.query(SegmentQuery(segments, Snapshot(read_ts), plan))
        assert found.rows is not None
        assert np.asarray(found.rows.keys).tolist() == expected
        if expected and names:
            rows = await self.bench.node.fetch(
                FetchRows(found.rows.sources, found.rows.offsets, names)
            )
            assert rows.to_pydict() == rows_as_they_are(expected, names)

    async def count(self, read_ts: int) -> None:
        expression, segments = self._asked()
        expected = int(self.oracle.visible(expression, segments, read_ts).sum())
        plan = compile_filter(expression, SCHEMA) if expression else None
        asked = SegmentQuery(segments, Snapshot(read_ts), plan, count_only=True)
        assert (await self.bench.node.query(asked)).count == expected

    async def fail(self) -> None:
        """A read that needs the store while it is away is refused, or right without it."""
        self.bench.store.failing = True
        try:
            await self.query(self.now)
        except Unavailable:
            pass
        finally:
            self.bench.store.failing = False

    async def churn(self) -> None:
        """Reads while one of their segments is released and another one becomes newer."""
        if len(self.loaded) < 2:
            return
        released, newer = self.random.sample(sorted(self.loaded), 2)
        self.versions[newer] += 1
        request = data().request(newer - 1, self.versions[newer])
        reads = [self._unless_released(self.search(self.now)) for _ in range(3)]
        await asyncio.gather(
            *reads,
            self._unless_released(self.query(self.now)),
            self.bench.node.load_segment(request),
            self.bench.node.release_segments((released,)),
        )
        self.loaded.discard(released)

    @staticmethod
    async def _unless_released(read: Coroutine[Any, Any, None]) -> None:
        with contextlib.suppress(Unavailable):
            await read

    async def give_up(self) -> None:
        """A client that goes away in the middle of a read leaves nothing behind."""
        task = asyncio.ensure_future(self.query(self.now))
        for _ in range(self.random.randrange(8)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


STEPS = st.lists(
    st.sampled_from(
        ["load", "load", "read", "read", "delete", "release", "churn", "fail", "give_up"]
    ),
    min_size=4,
    max_size=16,
)


@settings(max_examples=15, deadline=None)
@given(STEPS, st.integers(0, 1 << 30), st.sampled_from(["sync", "disable"]))
def test_answers_are_right_whatever_fits_and_the_disk_is_never_over_its_bound(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int, warmup: str
) -> None:
    asyncio.run(_play(tmp_path_factory.mktemp("history"), steps, seed, warmup))


async def _play(directory: Path, steps: list[str], seed: int, warmup: str) -> None:
    async with bench(directory, SMALL_BYTES, warmup) as small:
        player = Player(small, seed)
        for step in ["load", *steps, "read"]:
            await getattr(player, step)()
            assert small.cache.used_bytes <= SMALL_BYTES
        await idle(small)
        assert small.node._tier.pinned_bytes == small.node._tier._resident_bytes
        for segment_id in ALL:
            await small.node.release_segments((segment_id,))
        await idle(small)
        assert small.node._tier.pinned_bytes == 0
        assert small.world.memory.used_bytes == 0
    gc.collect()  # errors of refused reads may have kept what these read
    assert small.nameless() == {}


async def idle(of: Bench) -> None:
    """Until what given up reads have begun has ended."""
    while of.world.tasks._tasks:
        await asyncio.wait(list(of.world.tasks._tasks))


async def load_all(of: Bench) -> None:
    for number in range(SEGMENTS):
        await of.node.load_segment(data().request(number))


async def test_nothing_but_keys_and_timestamps_comes_before_it_is_needed(tmp_path: Path) -> None:
    async with bench(tmp_path, LARGE_BYTES) as cold:
        await load_all(cold)
        assert len(cold.store.fetched) == 2 * SEGMENTS
        asked = SegmentQuery(ALL, Snapshot(NEVER - 2), compile_filter("plain < 10", SCHEMA))
        await cold.node.query(asked)
        assert len(cold.store.fetched) == 3 * SEGMENTS
        await cold.node.query(asked)
        assert len(cold.store.fetched) == 3 * SEGMENTS


async def test_nothing_comes_of_segments_that_have_no_row_which_passes(tmp_path: Path) -> None:
    async with bench(tmp_path, LARGE_BYTES) as cold:
        await load_all(cold)
        cold.store.fetched.clear()
        hits = await cold.node.search(search(data().vectors[7], 10_000, "plain < 99 and id < 1"))
        assert np.asarray(hits.keys).tolist() == [0]
        assert {key.split("/")[3] for key in cold.store.fetched} == {"1"}


async def test_warmed_up_files_need_no_store(tmp_path: Path) -> None:
    async with bench(tmp_path, LARGE_BYTES, "sync") as warm:
        await load_all(warm)
        warm.store.failing = True
        vector = data().vectors[17]
        hits = await warm.node.search(search(vector, 10_000, output_fields=("words",)))
        assert int(np.asarray(hits.keys)[0]) == 17


async def test_files_that_go_are_really_gone(tmp_path: Path) -> None:
    async with bench(tmp_path, SMALL_BYTES) as small:
        await load_all(small)
        for vector in data().vectors[:5]:
            await small.node.search(search(vector, 10_000, output_fields=("words",)))
            assert small.nameless() == {}
            assert small.disk_bytes() == small.cache.used_bytes <= SMALL_BYTES
        assert small.cache.stats.evicted > 0
        assert small.cache.stats.evicted_bytes > SMALL_BYTES


async def test_readers_of_one_cold_file_share_its_fetch_and_may_give_up(tmp_path: Path) -> None:
    async with bench(tmp_path, LARGE_BYTES) as cold:
        await load_all(cold)
        cold.store.fetched.clear()
        cold.store.gate = asyncio.Event()
        asked = search(data().vectors[3], 10_000)
        reads = [asyncio.ensure_future(cold.node.search(asked)) for _ in range(4)]
        while not cold.store.fetched:  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0)
        reads[0].cancel()
        cold.store.gate.set()
        for read in reads[1:]:
            assert int(np.asarray((await read).keys)[0]) == 3
        assert len(cold.store.fetched) == len(set(cold.store.fetched)) == 2 * SEGMENTS


async def test_a_read_during_an_outage_fails_retriably_and_the_next_one_works(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, SMALL_BYTES) as small:
        await load_all(small)
        small.store.failing = True
        with pytest.raises(Unavailable, match="the store is away"):
            await small.node.search(search(data().vectors[3], 10_000))
        small.store.failing = False
        hits = await small.node.search(search(data().vectors[3], 10_000))
        assert int(np.asarray(hits.keys)[0]) == 3


async def test_a_file_damaged_on_its_way_is_fetched_again(tmp_path: Path) -> None:
    async with bench(tmp_path, LARGE_BYTES) as cold:
        await load_all(cold)
        cold.store.damaged = {key for key in data().objects if key.endswith((".npy", ".faiss"))}
        with structlog.testing.capture_logs():
            hits = await cold.node.search(search(data().vectors[3], 10_000))
        assert int(np.asarray(hits.keys)[0]) == 3
        assert max(map(cold.store.fetched.count, cold.store.fetched)) == 2


async def test_an_index_found_damaged_by_a_read_is_reported_when_asked(tmp_path: Path) -> None:
    async with bench(tmp_path, LARGE_BYTES) as cold:
        await load_all(cold)
        key = next(part.key for part in data().segments[0].indexes if part.index_id == 11)
        cold.store.lose([key])
        with structlog.testing.capture_logs() as logs:
            hits = await cold.node.search(search(data().vectors[5], 10_000))
        assert int(np.asarray(hits.keys)[0]) == 5
        assert [entry["field"] for entry in logs if entry["log_level"] == "error"] == ["vector"]
        assert await cold.node.load_segment(data().request(0, 1)) == (key,)
        hits = await cold.node.search(search(data().vectors[5], 10_000))
        assert int(np.asarray(hits.keys)[0]) == 5


async def test_a_column_that_is_gone_for_good_is_named(tmp_path: Path) -> None:
    async with bench(tmp_path, LARGE_BYTES) as cold:
        await load_all(cold)
        cold.store.lose(["insert_log/1/5/2/7/2.arrow"])
        with pytest.raises(CorruptData, match=r"2\.arrow is missing"):
            await cold.node.query(
                SegmentQuery(ALL, Snapshot(10_000), compile_filter("plain < 10", SCHEMA))
            )


async def test_a_segment_larger_than_the_cache_is_refused_and_says_why(tmp_path: Path) -> None:
    async with bench(tmp_path, 40_000) as tiny:
        await load_all(tiny)
        with pytest.raises(ResourceInsufficient, match=r"localStorage\.cache\.maxSize"):
            await tiny.node.search(search(data().vectors[3], 10_000))
        count = await tiny.node.query(SegmentQuery(ALL, Snapshot(10_000), None, count_only=True))
        assert count.count == len(data().ids)


async def test_without_eviction_what_is_open_stays_so(tmp_path: Path) -> None:
    async with bench(tmp_path, SMALL_BYTES, evicts=False) as cold:
        await load_all(cold)
        asked = search(data().vectors[3], 10_000)
        await cold.node.search(asked)
        cold.store.failing = True
        assert int(np.asarray((await cold.node.search(asked)).keys)[0]) == 3


async def test_a_released_segment_gives_its_room_back(tmp_path: Path) -> None:
    async with bench(tmp_path, SMALL_BYTES) as small:
        await load_all(small)
        await small.node.search(search(data().vectors[3], 10_000))
        assert small.cache.held_bytes > 0
        await small.node.release_segments(ALL)
        assert small.cache.held_bytes == 0
        assert small.world.memory.used_bytes == 0
