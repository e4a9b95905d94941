"""Objects as files of a directory. A key is the file's relative path.

A put writes to ``.tmp/``, syncs, and renames (or, create-only, links) into place; the directories
on the way are durable too. So an object is there as a whole or not at all. What a crash leaves in
``.tmp/`` is removed when the store is opened. Several processes of one machine may share a
directory if each has a name of its own, and by it a part of ``.tmp/``. Objects are never changed in
place, so a file may be mapped for as long as its mapping lives, even when the object is deleted
meanwhile.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from obstore.store import LocalStore

from elanus.runtime.world import World
from elanus.storage.disk import Disk, FileMissing, FileTaken
from elanus.storage.objects.base import Buffer, ObjectExists, ObjectNotFound
from elanus.storage.objects.keys import check_key
from elanus.storage.objects.obstore import ObstoreObjectStore
from elanus.storage.uncancelled import run_to_end

_TEMPORARY = ".tmp"
_MAX_ATTEMPTS = 20


class LocalObjectStore(ObstoreObjectStore):
    """Open with :meth:`open`."""

    maps_files = True

    def __init__(self, world: World, disk: Disk, root: Path, name: str = "") -> None:
        super().__init__(LocalStore(root, automatic_cleanup=True), str(root))
        self._world = world
        self._disk = disk
        self._root = root
        self._temporary = root / _TEMPORARY / name
        self._puts = 0

    @classmethod
    async def open(cls, world: World, disk: Disk, root: Path, name: str = "") -> "LocalObjectStore":
        """Open or create the directory ``root``; one process at a time with the same ``name``."""

        def prepare() -> Path:
            absolute = root.absolute()
            temporary = absolute / _TEMPORARY / name
            disk.make_directories(temporary)
            for left_over in disk.list_directory(temporary):
                disk.remove(temporary / left_over)
            return absolute

        return cls(world, disk, await world.executor.run("io", prepare), name)

    async def put(self, key: str, parts: Sequence[Buffer], *, create_only: bool = False) -> None:
        path = self.path_of(key)
        self._puts += 1
        # "#1" makes a name that listings of the backend leave out.
        temporary = self._temporary / f"{self._puts}#1"

        def write() -> None:
            self._disk.write_file_durably(path, parts, temporary=temporary, create_only=create_only)

        try:
            await self._in_place(path, write)
        except FileTaken as error:
            if not await self.holds(key, parts):
                raise ObjectExists(key) from error

    async def put_file(self, key: str, path: Path) -> None:
        target = self.path_of(key)
        await self._in_place(target, lambda: self._disk.adopt_file(path, target))

    async def _in_place(self, path: Path, write: Callable[[], None]) -> None:
        def make_and_write() -> None:
            hit = self._world.failpoints.hit
            hit("objects.put.before_write")
            for attempt in range(1, _MAX_ATTEMPTS + 1):
                try:
                    self._disk.make_directories(path.parent)
                    write()
                except FileMissing:
                    # A delete beside us removes the directories that it leaves empty.
                    if attempt == _MAX_ATTEMPTS:
                        raise
                else:
                    break
            hit("objects.put.after_write")

        await run_to_end(self._world.executor.run("io", make_and_write))

    async def fetch(self, key: str) -> Path:
        path = self.path_of(key)
        if await self._world.executor.run("io", self._disk.file_info, path) is None:
            raise ObjectNotFound(f"{key} in {self._where}")
        return path

    def path_of(self, key: str) -> Path:
        return self._root / check_key(key)
