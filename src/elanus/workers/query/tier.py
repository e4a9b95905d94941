"""Which files of the loaded segments are open on this node, and which may go.

A file is open (fetched, verified, mapped, known to its segment) or cold. A read pins all files that
it needs of a segment before its thread starts, which opens the cold ones, and unpins them when it
has ended; a pinned file is not closed. Concurrent reads of a cold file wait for one fetch, which
goes on if they give up. The store of local copies asks for files when the disk is short of room,
those that were used longest ago first: what isn't pinned is closed and deleted.

All that is pinned always fits the disk together, so whoever has pinned its files can have them
opened: a read that doesn't fit waits in line, without a pin. A read whose files never fit, or that
has waited too long, is refused, retriable.

A read that is given up unpins at once. Its thread, which nobody waits for, may meet a column that
has gone, or goes on with what it has, whose mapping lives as long.

Over a store whose files are the objects themselves, or without eviction, nothing is asked of reads
and files stay open once they are.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from elanus.errors import ResourceInsufficient, TooManyRequests, Unavailable
from elanus.runtime.world import World
from elanus.storage.objects.copies import LocalCopies

ROOM_TIMEOUT_S = 30.0
"""How long a read waits for others to end that have pinned what would make room."""
MAX_WAITING = 10_240
"""Reads of segments that wait for room."""


class TieredFile:
    """One file of a loaded segment. ``rank``: files of a lower one are opened before it.

    open_file: brings the file and makes it known to the segment. close_file: undoes that, now, and
    gives the objects that keep it mapped. pins: reads that need it.
    """

    __slots__ = (
        "close_file",
        "is_open",
        "is_released",
        "key",
        "open_file",
        "opening",
        "pins",
        "rank",
        "size_bytes",
        "used",
    )

    def __init__(
        self,
        key: str,
        size_bytes: int,
        open_file: Callable[[], Awaitable[None]],
        close_file: Callable[[], list[Any]],
        rank: int = 0,
    ) -> None:
        self.key = key
        self.size_bytes = size_bytes
        self.open_file = open_file
        self.close_file = close_file
        self.rank = rank
        self.pins = 0
        self.used = 0
        self.is_open = False
        self.is_released = False
        self.opening: asyncio.Task[Exception | None] | None = None

    def let_go(self) -> list[Any] | None:
        if self.pins:
            return None
        if not self.is_open:
            return []
        self.is_open = False
        return self.close_file()


def unpinned_bytes(files: Sequence[TieredFile]) -> int:
    return sum(file.size_bytes for file in files if not file.pins)


async def _never_opened() -> None:
    """What opens a released file: whoever asks for it is refused before."""


class Tier:
    """See the module."""

    def __init__(self, world: World, copies: LocalCopies | None, *, evicts: bool) -> None:
        self._world = world
        self._copies = copies if evicts else None
        self.is_remote = copies is not None
        self.capacity_bytes = sys.maxsize if self._copies is None else self._copies.high_bytes
        self.pinned_bytes = 0
        self._resident_bytes = 0
        self._reads = 0
        self._waiting: deque[tuple[Sequence[TieredFile], asyncio.Future[None]]] = deque()

    # --- life of a file -------------------------------------------------------------------------

    def add(self, file: TieredFile) -> None:
        if self._copies is not None:
            self._copies.hold(file.key, file)

    def remove(self, file: TieredFile) -> None:
        """Its segment has no use for it any more. Reads that have it pinned may go on."""
        file.is_released = True
        # So that what it is mapped as goes with the last of them, not with the next collection.
        file.open_file, file.close_file = _never_opened, list
        if self._copies is not None:
            self._copies.release(file.key, file)

    async def open_for_good(self, file: TieredFile) -> None:
        """Open it and keep it so until ``end_for_good``."""
        await self.pin([file])
        self._resident_bytes += file.size_bytes

    def end_for_good(self, file: TieredFile) -> None:
        self._resident_bytes -= file.size_bytes
        self.unpin([file])

    # --- reads ----------------------------------------------------------------------------------

    def pin_open(self, files: Sequence[TieredFile]) -> bool:
        """Pin them, if all are open already; if not none is pinned."""
        if self._waiting:
            return not files
        more_bytes = 0
        for file in files:
            if not file.is_open:
                return False
            if not file.pins:
                more_bytes += file.size_bytes
        return self._take(files, more_bytes)

    async def pin(self, files: Sequence[TieredFile]) -> None:
        """Pin and open them. Raises Unavailable, CorruptData, ResourceInsufficient or
        TooManyRequests."""
        await self._admit(files)
        try:
            for rank in sorted({file.rank for file in files if not file.is_open}):
                await self._open([f for f in files if f.rank == rank and not f.is_open])
        except BaseException:
            self.unpin(files)
            raise

    def unpin(self, files: Sequence[TieredFile]) -> None:
        for file in files:
            file.pins -= 1
            if not file.pins:
                self.pinned_bytes -= file.size_bytes
        if self._waiting:
            self._admit_waiting()
        if self._copies is not None and self._copies.is_short:
            self._copies.note_room()

    @asynccontextmanager
    async def pinned(self, files: Sequence[TieredFile]) -> AsyncIterator[None]:
        await self.pin(files)
        try:
            yield
        finally:
            self.unpin(files)

    # --- room -----------------------------------------------------------------------------------

    def _take(self, files: Sequence[TieredFile], more_bytes: int) -> bool:
        """Pin them if they fit, of which ``more_bytes`` are not pinned yet."""
        if self.pinned_bytes + more_bytes > self.capacity_bytes:
            return False
        self.pinned_bytes += more_bytes
        self._reads = now = self._reads + 1
        for file in files:
            file.pins += 1
            file.used = now
        return True

    async def _admit(self, files: Sequence[TieredFile]) -> None:
        if not self._waiting and self._take(files, unpinned_bytes(files)):
            return
        wanted_bytes = sum(file.size_bytes for file in files)
        if wanted_bytes + self._resident_bytes > self.capacity_bytes:
            raise ResourceInsufficient(
                f"files of {wanted_bytes} bytes are needed at the same time, the local cache has "
                f"{self.capacity_bytes - self._resident_bytes} bytes for them: "
                f"localStorage.cache.maxSize is too small"
            )
        if len(self._waiting) >= MAX_WAITING:
            raise TooManyRequests(
                f"{len(self._waiting)} reads wait for room in the local cache, send again later"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((files, turn))
        try:
            async with asyncio.timeout(ROOM_TIMEOUT_S):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.unpin(files)  # they were pinned for us already
            else:
                turn.cancel()
                self._admit_waiting()  # who stood behind may fit
            if isinstance(error, TimeoutError):
                raise ResourceInsufficient(
                    f"no room for files of {wanted_bytes} bytes in {ROOM_TIMEOUT_S:.0f} s: other "
                    f"reads need what is in the local cache (localStorage.cache.maxSize)"
                ) from None
            raise

    def _admit_waiting(self) -> None:
        while self._waiting:
            files, turn = self._waiting[0]
            if not turn.done():
                if not self._take(files, unpinned_bytes(files)):
                    return
                turn.set_result(None)
            self._waiting.popleft()

    # --- opening --------------------------------------------------------------------------------

    async def _open(self, files: Sequence[TieredFile]) -> None:
        if not self.is_remote:
            for file in files:
                await file.open_file()
                file.is_open = True
            return
        tasks = [self._opening(file) for file in files]
        # Shielded: others wait for them too.
        outcomes = await asyncio.gather(*map(asyncio.shield, tasks), return_exceptions=True)
        failed = next((outcome for outcome in outcomes if outcome is not None), None)
        # An error that a frame of its own traceback holds would keep all that is mapped there.
        del tasks, outcomes
        try:
            if isinstance(failed, asyncio.CancelledError):
                raise Unavailable("files are not fetched any more: the query node stops") from None
            if failed is not None:
                raise failed
        finally:
            del failed

    def _opening(self, file: TieredFile) -> "asyncio.Task[Exception | None]":
        """The task that opens it, which has pinned it for itself."""
        if file.opening is None:
            assert file.pins, "a file is opened for a read that has pinned it"
            file.pins += 1
            file.opening = self._world.tasks.spawn(f"open {file.key}", self._open_one(file))
        return file.opening

    async def _open_one(self, file: TieredFile) -> Exception | None:
        """Why it can't be opened: told to those who wait, if any still do."""
        try:
            if file.is_released:
                raise Unavailable(f"file {file.key} was released")
            await file.open_file()
        except Exception as error:  # noqa: BLE001 - told to each of those who wait
            return error
        else:
            file.is_open = True
            return None
        finally:
            file.opening = None
            self.unpin([file])
