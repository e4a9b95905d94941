"""Metadata in one SQLite file, for one process at a time.

A transaction is one SQLite transaction in WAL mode with ``synchronous=FULL``: durable on return,
atomic after a crash. One connection, which locks the file, used by one call at a time in the
``io`` pool. Changes since the start are kept in memory for watches; leases survive a restart and
begin anew then.

Order of a transaction: compare, write, commit, and only then are watches told. If the commit
fails the connection is rolled back, so the store goes on; without room reads still work.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from elanus.errors import CorruptData, DiskFull, Unavailable
from elanus.runtime.world import World
from elanus.storage.meta._events import EventLog
from elanus.storage.meta._leases import LeaseTable
from elanus.storage.meta.base import (
    Compare,
    Delete,
    KeyValue,
    MetaStore,
    Put,
    Snapshot,
    TransactionResult,
    WatchEvent,
    check_transaction,
)
from elanus.storage.uncancelled import run_to_end

T = TypeVar("T")

FORMAT_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pair (
    key TEXT PRIMARY KEY COLLATE BINARY, value BLOB NOT NULL,
    created INTEGER NOT NULL, modified INTEGER NOT NULL, lease INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pair_by_lease ON pair (lease) WHERE lease <> 0;
CREATE TABLE IF NOT EXISTS lease (id INTEGER PRIMARY KEY AUTOINCREMENT, ttl_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO state VALUES ('revision', 0);
"""
_COLUMNS = "SELECT key, value, created, modified, lease FROM pair"
_PUT = """
INSERT INTO pair VALUES (:key, :value, :revision, :revision, :lease)
ON CONFLICT (key) DO UPDATE SET value = :value, modified = :revision, lease = :lease
"""
_LAST_CODE_POINT = 0x10FFFF
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SqliteMetaStore(MetaStore):
    """Open with :meth:`open`."""

    def __init__(self, world: World, path: Path, connection: sqlite3.Connection) -> None:
        self._world = world
        self._path = path
        self._connection = connection
        self._one_at_a_time = asyncio.Lock()
        self._revision = 0
        self._events = EventLog(0)
        self._leases = LeaseTable(world, self.revoke_lease)
        self._closed = False

    @classmethod
    async def open(cls, world: World, path: Path, *, read_only: bool = False) -> "SqliteMetaStore":
        """Open or create the file; its directory exists. Raises CorruptData, DiskFull or
        Unavailable (for example: another process has it).

        ``read_only``: the file must exist and changes of it are refused; leases don't run out.
        """
        connection = await world.executor.run("io", _connect, path, read_only)
        store = cls(world, path, connection)
        store._revision, leases = await world.executor.run("io", store._read_state)
        store._events = EventLog(store._revision)
        if not read_only:
            store._leases.start(leases)
        return store

    def _read_state(self) -> tuple[int, dict[int, float]]:
        with _translate_errors(self._path):
            revision = self._read_revision()
            return revision, dict(self._connection.execute("SELECT id, ttl_s FROM lease"))

    def _read_revision(self) -> int:
        query = "SELECT value FROM state WHERE name = 'revision'"
        (revision,) = self._connection.execute(query).fetchone()
        return int(revision)

    async def get(self, key: str) -> KeyValue | None:
        def read() -> KeyValue | None:
            row = self._connection.execute(f"{_COLUMNS} WHERE key = ?", (key,)).fetchone()
            return None if row is None else KeyValue(*row)

        return await self._call(read)

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int = 0
    ) -> list[KeyValue]:
        return await self._call(lambda: self._range(prefix, after, limit))

    def _range(self, prefix: str, after: str | None, limit: int) -> list[KeyValue]:
        conditions, values = ["key >= ?"], [prefix]
        if (end := _end_of_prefix(prefix)) is not None:
            conditions.append("key < ?")
            values.append(end)
        if after is not None:
            conditions.append("key > ?")
            values.append(after)
        query = f"{_COLUMNS} WHERE {' AND '.join(conditions)} ORDER BY key LIMIT {limit or -1}"
        return [KeyValue(*row) for row in self._connection.execute(query, values)]

    async def snapshot(self, prefix: str) -> Snapshot:
        # Calls run one at a time, and the revision changes within the call that changes pairs.
        return await self._call(
            lambda: Snapshot(self._range(prefix, None, 0), self._read_revision())
        )

    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        check_transaction(operations, compares)
        for operation in operations:
            if isinstance(operation, Put) and operation.lease:
                self._leases.require(operation.lease)

        def write() -> list[WatchEvent] | None:
            return self._transact(operations, compares)

        return await run_to_end(self._commit(write))

    async def _commit(self, write: Callable[[], list[WatchEvent] | None]) -> TransactionResult:
        """Run ``write`` and tell the watches, apart from all other calls."""
        async with self._one_at_a_time:
            self._require_open()
            events = await self._world.executor.run("io", self._guard, write)
            if events is None:
                return TransactionResult(False, self._revision)
            if events:
                self._revision = events[0].revision
                self._events.publish(events[1:])
                self._world.failpoints.hit("meta.transact.after_commit")
            return TransactionResult(True, self._revision)

    def _transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare]
    ) -> list[WatchEvent] | None:
        """The changes, after a nameless one that carries the revision; None if a comparison
        failed; nothing if there was nothing to do."""
        connection = self._connection
        modified = "SELECT modified FROM pair WHERE key = ?"
        for compare in compares:
            row = connection.execute(modified, (compare.key,)).fetchone()
            if (row[0] if row else 0) != compare.modified_revision:
                return None
        if not operations:
            return []
        revision = self._revision + 1
        events = [WatchEvent("", None, revision)]
        connection.execute("BEGIN IMMEDIATE")
        self._world.failpoints.hit("meta.transact.before_commit")
        for operation in operations:
            if isinstance(operation, Put):
                values = {
                    "key": operation.key,
                    "value": operation.value,
                    "revision": revision,
                    "lease": operation.lease,
                }
                connection.execute(_PUT, values)
                events.append(WatchEvent(operation.key, bytes(operation.value), revision))
            elif connection.execute("DELETE FROM pair WHERE key = ?", (operation.key,)).rowcount:
                events.append(WatchEvent(operation.key, None, revision))
        connection.execute("UPDATE state SET value = ? WHERE name = 'revision'", (revision,))
        connection.execute("COMMIT")
        return events

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[WatchEvent]:
        return self._events.watch(prefix, from_revision)

    async def revision(self) -> int:
        return self._revision

    async def grant_lease(self, ttl_s: float) -> int:
        def write() -> int:
            cursor = self._connection.execute("INSERT INTO lease (ttl_s) VALUES (?)", (ttl_s,))
            return cursor.lastrowid or 0

        lease = await self._call(write)
        self._leases.start({lease: ttl_s})
        return lease

    async def keep_alive(self, lease: int) -> None:
        self._leases.keep_alive(lease)

    async def revoke_lease(self, lease: int) -> None:
        def write() -> list[WatchEvent] | None:
            query = "SELECT key FROM pair WHERE lease = ? ORDER BY key"
            keys = [row[0] for row in self._connection.execute(query, (lease,))]
            events = self._transact([Delete(key) for key in keys], ())
            self._connection.execute("DELETE FROM lease WHERE id = ?", (lease,))
            return events

        await run_to_end(self._commit(write))
        self._leases.forget(lease)

    async def close(self) -> None:
        if self._closed:
            return
        await self._leases.close()
        await self._call(self._connection.close)
        self._closed = True
        self._events.close()

    async def _call(self, function: Callable[[], T]) -> T:
        return await run_to_end(self._call_alone(function))

    async def _call_alone(self, function: Callable[[], T]) -> T:
        async with self._one_at_a_time:
            self._require_open()
            return await self._world.executor.run("io", self._guard, function)

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the metadata store {self._path} is closed")

    def _guard(self, function: Callable[[], T]) -> T:
        """Call ``function``; on any error take back what it left uncommitted."""
        try:
            with _translate_errors(self._path):
                return function()
        except BaseException:
            with _translate_errors(self._path):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    mode = "rw" if read_only else "rwc"  # a crash's journal is read only by who may write
    with _translate_errors(path):
        # Calls come from several threads of the pool, one at a time.
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT_VERSION):
                raise CorruptData(
                    f"{path} has format version {version}, this program reads {FORMAT_VERSION}"
                )
            if read_only:
                connection.execute("PRAGMA query_only = ON")
            elif version == 0:
                connection.executescript(
                    f"BEGIN IMMEDIATE;{_SCHEMA};PRAGMA user_version = {FORMAT_VERSION};COMMIT;"
                )
        except BaseException:
            connection.close()
            raise
        return connection


def _end_of_prefix(prefix: str) -> str | None:
    """The smallest string after all that start with ``prefix``; None if there is none.

    SQLite compares the UTF-8 bytes, whose order is that of the code points.
    """
    prefix = prefix.rstrip(chr(_LAST_CODE_POINT))
    if not prefix:
        return None
    following = ord(prefix[-1]) + 1
    if following == 0xD800:  # surrogates have no UTF-8
        following = 0xE000
    return prefix[:-1] + chr(following)


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            raise DiskFull(str(path)) from error
        if primary in _DAMAGED:
            raise CorruptData(f"metadata file {path} is damaged: {error}") from error
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Unavailable(f"metadata file {path} is in use by another process") from error
        raise Unavailable(f"metadata file {path}: {error}") from error
