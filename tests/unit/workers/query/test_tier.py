"""Who may have which files open at the same time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.worlds import running_world

from elanus.errors import ResourceInsufficient, Unavailable
from elanus.runtime.world import World
from elanus.storage.objects.copies import CopyStats, Holder, LocalCopies
from elanus.workers.query import tier as tier_module
from elanus.workers.query.tier import Tier, TieredFile

ROOM = 100


class Copies(LocalCopies):
    """Only remembers who holds what."""

    max_bytes = high_bytes = ROOM
    low_bytes = 50
    used_bytes = held_bytes = 0

    def __init__(self) -> None:
        self.stats = CopyStats()
        self.holders: dict[str, Holder] = {}
        self.noted = 0

    def hold(self, key: str, holder: Holder) -> None:
        self.holders[key] = holder

    def release(self, key: str, holder: Holder) -> None:
        if self.holders.get(key) is holder:
            del self.holders[key]

    def note_room(self) -> None:
        self.noted += 1


class Files:
    """Makes files; opening waits for ``gate``."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.gate = asyncio.Event()
        self.gate.set()
        self.events: list[str] = []

    def file(self, name: str, size_bytes: int, *, rank: int = 0, fails: int = 0) -> TieredFile:
        left = [fails]

        async def open_file() -> None:
            await self.gate.wait()
            if left[0]:
                left[0] -= 1
                raise Unavailable(f"{name} is away")
            self.events.append(f"open {name}")

        def close_file() -> list[Any]:
            self.events.append(f"close {name}")
            return []

        made = TieredFile(name, size_bytes, open_file, close_file, rank)
        self.tier.add(made)
        return made


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running_world() as world:
        yield world


@pytest.fixture
def files(world: World) -> Files:
    return Files(Tier(world, Copies(), evicts=True))


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_pinned_file_does_not_let_go_and_an_unpinned_one_does(files: Files) -> None:
    file = files.file("a", 10)
    async with files.tier.pinned([file]):
        assert file.let_go() is None
    assert file.is_open
    assert file.let_go() == []
    assert not file.is_open
    assert files.events == ["open a", "close a"]
    assert not files.tier.pin_open([file])


async def test_columns_are_opened_before_the_indexes_over_them(files: Files) -> None:
    index, column = files.file("index", 10, rank=1), files.file("column", 10)
    async with files.tier.pinned([index, column]):
        assert files.events == ["open column", "open index"]


async def test_open_files_are_pinned_at_once_or_not_at_all(files: Files) -> None:
    here, cold = files.file("here", 10), files.file("cold", 10)
    await files.tier.pin([here])
    files.tier.unpin([here])
    assert not files.tier.pin_open([here, cold])
    assert files.tier.pinned_bytes == 0
    assert files.tier.pin_open([here])
    assert files.tier.pinned_bytes == 10


async def test_what_does_not_fit_beside_what_is_pinned_waits_in_line(files: Files) -> None:
    large, larger, small = files.file("large", 60), files.file("larger", 70), files.file("s", 10)
    await files.tier.pin([large])
    waiting = [asyncio.ensure_future(files.tier.pin([file])) for file in (larger, small)]
    await turns()
    assert not any(task.done() for task in waiting), "the small one would overtake for ever"
    assert not files.tier.pin_open([large])
    files.tier.unpin([large])
    await asyncio.gather(*waiting)
    assert files.tier.pinned_bytes == 80
    files.tier.unpin([larger, small])
    assert files.tier.pinned_bytes == 0


async def test_who_gives_up_waiting_makes_place_for_those_behind(files: Files) -> None:
    large, larger, small = files.file("large", 60), files.file("larger", 70), files.file("s", 10)
    await files.tier.pin([large])
    first, second = (asyncio.ensure_future(files.tier.pin([file])) for file in (larger, small))
    await turns()
    first.cancel()
    await second
    assert files.tier.pinned_bytes == 70
    assert files.events == ["open large", "open s"]


async def test_waiting_has_an_end(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier_module, "ROOM_TIMEOUT_S", 0.01)
    large, larger = files.file("large", 60), files.file("larger", 70)
    await files.tier.pin([large])
    with pytest.raises(ResourceInsufficient, match="no room") as caught:
        await files.tier.pin([larger])
    assert caught.value.retriable
    files.tier.unpin([large])
    assert files.tier.pinned_bytes == 0
    assert files.tier.pin_open([large])


async def test_what_never_fits_is_refused_at_once(files: Files) -> None:
    key = files.file("key", 40)
    await files.tier.open_for_good(key)
    with pytest.raises(ResourceInsufficient, match=r"70 bytes are needed .* has 60 bytes"):
        await files.tier.pin([files.file("a", 30), files.file("b", 40)])
    files.tier.end_for_good(key)
    assert files.tier.pinned_bytes == 0


async def test_all_who_wait_for_a_failed_fetch_are_told_and_the_next_one_tries_again(
    files: Files,
) -> None:
    file = files.file("a", 10, fails=1)
    files.gate.clear()
    reads = [asyncio.ensure_future(files.tier.pin([file])) for _ in range(3)]
    await turns()
    files.gate.set()
    told = await asyncio.gather(*reads, return_exceptions=True)
    assert [str(error) for error in told] == ["a is away"] * 3
    assert files.tier.pinned_bytes == 0
    async with files.tier.pinned([file]):
        assert files.events == ["open a"]


async def test_a_fetch_that_nobody_waits_for_any_more_ends_and_keeps_its_room_until_then(
    files: Files,
) -> None:
    file = files.file("a", 10)
    files.gate.clear()
    read = asyncio.ensure_future(files.tier.pin([file]))
    await turns()
    read.cancel()
    await asyncio.gather(read, return_exceptions=True)
    assert file.let_go() is None
    assert files.tier.pinned_bytes == 10
    files.gate.set()
    await turns()
    assert file.is_open
    assert files.tier.pinned_bytes == 0


async def test_a_released_file_is_not_opened_any_more(files: Files) -> None:
    file = files.file("a", 10)
    files.tier.remove(file)
    with pytest.raises(Unavailable, match="was released"):
        await files.tier.pin([file])
    assert files.tier.pinned_bytes == 0


async def test_a_store_that_is_short_of_room_hears_of_unpinned_files(world: World) -> None:
    copies = Copies()
    files = Files(Tier(world, copies, evicts=True))
    file = files.file("a", 10)
    await files.tier.pin([file])
    copies.is_short = True
    files.tier.unpin([file])
    assert copies.noted


async def test_files_that_are_the_objects_themselves_are_opened_once(world: World) -> None:
    files = Files(Tier(world, None, evicts=True))
    file = files.file("a", 1 << 60)
    async with files.tier.pinned([file]):
        pass
    async with files.tier.pinned([file]):
        assert files.events == ["open a"]
