"""The cache of objects against a model: right bytes, bounded size, one download a key.

The oracle is a dictionary from key to content. The store behind is in memory; it gives an object
in small pieces, with other tasks running between any two.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elanus.errors import DiskFull, ResourceInsufficient, Unavailable
from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import Pool
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.storage.objects.base import Buffer, ObjectNotFound, ObjectStream
from elanus.storage.objects.cache_files import CacheFiles
from elanus.storage.objects.cached import MAX_DOWNLOADS, CachedObjectStore
from elanus.storage.objects.memory import MemoryObjectStore

P = ParamSpec("P")
T = TypeVar("T")

BOUND = 100
KEYS = [f"dir/{number}" for number in range(6)]


class YieldingExecutor:
    """Calls at once, after other tasks had a turn."""

    async def run(
        self, pool: Pool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        await asyncio.sleep(0)
        result = function(*args, **kwargs)
        await asyncio.sleep(0)
        return result

    def close(self) -> None:
        pass


class SlowMemory(MemoryObjectStore):
    """``downloads`` counts streams by key; ``broken`` ones end in the middle; ``gate``, if set,
    holds back the last piece."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.downloads: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.gate: asyncio.Event | None = None
        self.begun = asyncio.Event()

    @asynccontextmanager
    async def stream(self, key: str) -> AsyncIterator[ObjectStream]:
        data = await self.get(key)
        self.downloads[key] += 1
        self.running[key] += 1
        self.begun.set()
        assert self.running[key] == 1, "one key is downloaded twice at a time"

        async def chunks() -> AsyncIterator[Buffer]:
            for start in range(0, len(data), 10):
                await asyncio.sleep(0)
                if key in self.broken and start > 10:
                    raise Unavailable("broke off")
                if self.gate is not None:
                    await self.gate.wait()
                yield data[start : start + 10]

        try:
            yield ObjectStream(len(data), chunks())
        finally:
            self.running[key] -= 1


def make_world() -> World:
    return World(
        clock=SystemClock(),
        random=random.Random(1),
        executor=YieldingExecutor(),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 20),
    )


async def open_cache(
    directory: Path, store: SlowMemory | None = None, bound: int = BOUND
) -> tuple[CachedObjectStore, SlowMemory]:
    world = make_world()
    store = store or SlowMemory(world)
    return await CachedObjectStore.open(world, store, directory, bound), store


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


Step = tuple[str, list[int], int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fetch", "fetch", "put", "put_file", "delete", "break", "lose", "reopen"]),
        st.lists(st.integers(0, len(KEYS) - 1), min_size=1, max_size=8),
        st.integers(0, 60),
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(STEPS)
def test_a_cache_serves_the_objects_bytes_within_its_bound(steps: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(_play(Path(folder), steps))


async def _play(folder: Path, steps: Sequence[Step]) -> None:
    directory = folder / "cache"
    cache, store = await open_cache(directory)
    model: dict[str, bytes] = {}
    for number, (action, indexes, size) in enumerate(steps):
        keys = [KEYS[index] for index in indexes]
        content = bytes([number % 256]) * size
        match action:
            case "fetch":
                await asyncio.gather(*(_check_fetch(cache, store, model, key) for key in keys))
            case "put":
                # A reader at the same time may see the old or the new object, but leaves no copy
                # of the old.
                reader = asyncio.ensure_future(_ignore(cache.fetch(keys[0])))
                await cache.put(keys[0], [content])
                model[keys[0]] = content
                await reader
            case "put_file":
                source = folder / "built"
                source.write_bytes(content)
                await cache.put_file(keys[0], source)
                model[keys[0]] = content
            case "delete":
                reader = asyncio.ensure_future(_ignore(cache.fetch(keys[0])))
                await cache.delete(keys)
                await reader
                for key in keys:
                    model.pop(key, None)
                    assert not (directory / CacheFiles.name_of(key)).exists()
            case "break":
                store.broken ^= set(keys)
            case "lose":
                (directory / CacheFiles.name_of(keys[0])).unlink(missing_ok=True)
            case _:
                await cache.close()
                (directory / "99.tmp").write_bytes(b"half")
                cache, store = await open_cache(directory, store)
                assert not list(directory.glob("*.tmp"))
        assert size_of(directory) <= cache.used_bytes <= BOUND
    await cache.close()


async def _ignore(fetching: object) -> None:
    try:
        await fetching  # type: ignore[misc]
    except (ObjectNotFound, Unavailable):
        return


async def _check_fetch(
    cache: CachedObjectStore, store: SlowMemory, model: dict[str, bytes], key: str
) -> None:
    try:
        path = await cache.fetch(key)
    except ObjectNotFound:
        assert key not in model
    except Unavailable:
        assert key in store.broken
    else:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return  # others needed the room at once
        assert data == model[key]


async def test_many_who_ask_for_one_object_cause_one_download(tmp_path: Path) -> None:
    cache, store = await open_cache(tmp_path)
    await store.put("k", [b"content"])
    paths = await asyncio.gather(*(cache.fetch("k") for _ in range(50)))
    assert len(set(paths)) == 1
    assert store.downloads["k"] == 1


async def test_a_caller_that_gives_up_does_not_take_the_others_download_away(
    tmp_path: Path,
) -> None:
    cache, store = await open_cache(tmp_path)
    await store.put("k", [b"content"])
    store.gate = asyncio.Event()
    first, second = (asyncio.create_task(cache.fetch("k")) for _ in range(2))
    await store.begun.wait()
    first.cancel()
    store.gate.set()
    assert (await second).read_bytes() == b"content"
    assert store.downloads["k"] == 1


async def test_downloads_that_do_not_fit_together_wait_for_each_other(tmp_path: Path) -> None:
    cache, store = await open_cache(tmp_path)
    for key in KEYS:
        await store.put(key, [key.encode() * 12])
    paths = await asyncio.gather(*(cache.fetch(key) for key in KEYS))
    assert len(set(paths)) == len(KEYS)
    assert size_of(tmp_path) <= BOUND


async def test_what_was_used_longest_ago_goes_first_also_after_a_restart(tmp_path: Path) -> None:
    cache, store = await open_cache(tmp_path)
    for key in "abcd":
        await store.put(key, [key.encode() * 30])
    for key in "abc":
        await cache.fetch(key)
    await cache.fetch("a")
    cache, _ = await open_cache(tmp_path, store)
    await cache.fetch("d")
    for key in "acd":
        await cache.fetch(key)
    assert store.downloads == Counter("abcd")


async def test_a_damaged_copy_is_fetched_again(tmp_path: Path) -> None:
    cache, store = await open_cache(tmp_path)
    await store.put("k", [b"content"])
    (await cache.fetch("k")).write_bytes(b"c0ntent")
    assert (await cache.refetch("k")).read_bytes() == b"content"


async def test_an_object_larger_than_the_cache_is_refused_by_name(tmp_path: Path) -> None:
    cache, store = await open_cache(tmp_path)
    await store.put("large", [bytes(BOUND + 1)])
    with pytest.raises(ResourceInsufficient, match=r"large has 101 bytes.*cache.maxSize"):
        await cache.fetch("large")


async def test_a_file_that_was_put_is_the_copy(tmp_path: Path) -> None:
    cache, store = await open_cache(tmp_path / "cache")
    source = tmp_path / "built"
    source.write_bytes(b"index")
    await cache.put_file("k", source)
    assert (await cache.fetch("k")).read_bytes() == b"index"
    assert store.downloads["k"] == 0


async def test_a_full_disk_shrinks_the_cache_before_it_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 50
    append = CacheFiles.append

    def append_within_room(self: CacheFiles, path: Path, data: Buffer) -> None:
        if size_of(tmp_path) + memoryview(data).nbytes > room:
            raise DiskFull(str(path))
        append(self, path, data)

    monkeypatch.setattr(CacheFiles, "append", append_within_room)
    cache, store = await open_cache(tmp_path)
    for key in "abc":
        await store.put(key, [key.encode() * 30])
    for key in "abc":
        assert (await cache.fetch(key)).read_bytes() == key.encode() * 30
    await store.put("large", [bytes(60)])
    with pytest.raises(DiskFull):
        await cache.fetch("large")
    assert size_of(tmp_path) == 0
    assert cache.used_bytes == 0


async def test_closing_tells_those_who_wait(tmp_path: Path) -> None:
    cache, store = await open_cache(tmp_path)
    await store.put("k", [b"content"])
    store.gate = asyncio.Event()
    waiting = asyncio.create_task(cache.fetch("k"))
    await store.begun.wait()
    await cache.close()
    with pytest.raises(Unavailable, match="closed"):
        await waiting
    assert size_of(tmp_path) == 0


class Reader:
    """Holds a copy, and lets go of it unless it is ``busy``."""

    def __init__(self, used: int, *, busy: bool = False) -> None:
        self.used = used
        self.busy = busy
        self.has_gone = False

    def let_go(self) -> list[Any] | None:
        if self.busy:
            return None
        self.has_gone = True
        return []


async def cache_of(directory: Path, *sizes: int) -> tuple[CachedObjectStore, SlowMemory]:
    """With objects 0, 1, … of these sizes."""
    cache, store = await open_cache(directory)
    for number, size in enumerate(sizes):
        await store.put(str(number), [bytes(size)])
    return cache, store


async def test_what_nobody_holds_goes_first_and_then_what_was_used_longest_ago(
    tmp_path: Path,
) -> None:
    cache, _ = await cache_of(tmp_path, 30, 30, 30, 30, 30)
    late, early = Reader(9), Reader(2)
    for key, holder in (("0", late), ("1", early)):
        cache.hold(key, holder)
        await cache.fetch(key)
    await cache.fetch("2")
    assert cache.held_bytes == 60
    await cache.fetch("3")
    assert not early.has_gone, "2 had no holder"
    cache.hold("3", Reader(10))
    await cache.fetch("4")
    assert early.has_gone
    assert not late.has_gone
    assert (cache.stats.evicted, cache.stats.evicted_bytes) == (2, 60)


async def test_from_the_high_water_level_on_files_go_down_to_the_low_one(tmp_path: Path) -> None:
    world = make_world()
    store = SlowMemory(world)
    for number in range(9):
        await store.put(str(number), [bytes(10)])
    cache = await CachedObjectStore.open(world, store, tmp_path, BOUND, low=0.5, high=0.8)
    for number in range(8):
        await cache.fetch(str(number))
    assert cache.used_bytes == size_of(tmp_path) == 80
    await cache.fetch("8")
    assert cache.used_bytes == size_of(tmp_path) == 50


async def test_who_waits_for_readers_to_let_go_keeps_no_other_from_downloading(
    tmp_path: Path,
) -> None:
    cache, _ = await cache_of(tmp_path, 60, *[70] * MAX_DOWNLOADS, 20)
    reader = Reader(1, busy=True)
    cache.hold("0", reader)
    await cache.fetch("0")
    large = [asyncio.ensure_future(cache.fetch(str(n + 1))) for n in range(MAX_DOWNLOADS)]
    async with asyncio.timeout(5):
        await cache.fetch(str(MAX_DOWNLOADS + 1))
        assert not any(task.done() for task in large)
        reader.busy = False
        cache.note_room()
        await asyncio.gather(*large)
    assert reader.has_gone
    assert cache.used_bytes == size_of(tmp_path) <= BOUND
