"""The target's side of the bargain: whose data is being copied there, and how far it has come.

The journal lies in the target's metadata, below ``storage/migration``. From the first step on the
target's identity says that a migration is under way, and a server refuses to start there. The last
step makes the identity complete and removes the journal, in one transaction. Every change of the
journal compares its revision, so two migrations into one target can't both go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from elanus.coordinator.catalog import in_batches
from elanus.errors import CorruptData, Rejected
from elanus.roles.storage import Backends
from elanus.runtime.world import World
from elanus.storage.identity import (
    META_KEY,
    Identity,
    IdentityMark,
    encode_identity,
    require_version,
)
from elanus.storage.meta.base import Compare, Delete, MetaStore, Put

JOURNAL_KEY = "storage/migration"
LOG_PREFIX = JOURNAL_KEY + "/log/"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """``number`` grows with every start of a migration into this target."""

    cluster_id: str
    number: int


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One log: the term that its copy is written at. ``finished_digest``: that of the source's
    metadata for which the copy is whole and the checkpoints stored; empty before."""

    term: int
    finished_digest: str = ""


@dataclass
class Journal:
    world: World
    meta: MetaStore
    cluster_id: str
    attempt: Attempt
    revision: int
    logs: dict[str, LogEntry]

    async def put_log(self, pchannel: str, entry: LogEntry) -> None:
        await self.change([Put(LOG_PREFIX + pchannel, msgspec.json.encode(entry))])
        self.logs[pchannel] = entry

    async def complete(self) -> None:
        """The target is a cluster from now on."""
        for batch in in_batches(sorted(self.logs)):
            await self.change([Delete(LOG_PREFIX + pchannel) for pchannel in batch])
        identity = encode_identity(Identity(cluster_id=self.cluster_id))
        self.world.failpoints.hit("migrate.before_complete")
        operations: list[Put | Delete] = [Put(META_KEY, identity), Delete(JOURNAL_KEY)]
        result = await self.meta.transact(operations, [Compare(JOURNAL_KEY, self.revision)])
        _require_alone(result.succeeded)
        self.world.failpoints.hit("migrate.after_complete")

    async def change(self, operations: Sequence[Put | Delete]) -> None:
        """Raises Rejected, and changes nothing, if a later attempt has begun."""
        compare = Compare(JOURNAL_KEY, self.revision)
        _require_alone((await self.meta.transact(operations, [compare])).succeeded)


async def claim(world: World, parts: Backends, cluster_id: str) -> Journal:
    """Make the target that of a migration of ``cluster_id``, or go on with one.

    Raises Rejected if it holds anything else, before anything was changed.
    """
    known = await parts.meta_mark.read()
    others = (parts.wal.mark, parts.objects_mark)
    if known is None:
        await _require_empty(parts.meta_mark, *others)
    else:
        require_version(known, parts.meta_mark.name)
        if not known.migrating and known.cluster_id == cluster_id:
            raise Rejected(
                f"the target already is cluster {cluster_id}, complete; compare it with "
                f"--verify-only, or choose an empty one"
            )
        if not known.migrating:
            raise Rejected(
                f"the target is not empty: its {parts.meta_mark.name} belongs to cluster "
                f"{known.cluster_id}; choose an empty one"
            )
        _require_same(known, cluster_id, parts.meta_mark)
    unmarked = await _unmarked(others, cluster_id)
    journal = await _store_attempt(world, parts.meta, cluster_id)
    for mark in unmarked:
        world.failpoints.hit("migrate.before_mark")
        await mark.write(Identity(cluster_id=cluster_id))
        world.failpoints.hit("migrate.after_mark")
    return journal


async def _require_empty(*marks: IdentityMark) -> None:
    for mark in marks:
        if await mark.read() is not None or await mark.holds_data():
            raise Rejected(f"the target is not empty: {mark.name} holds data; choose an empty one")


async def _unmarked(marks: tuple[IdentityMark, ...], cluster_id: str) -> list[IdentityMark]:
    unmarked = []
    for mark in marks:
        found = await mark.read()
        if found is not None:
            _require_same(found, cluster_id, mark)
            continue
        await _require_empty(mark)
        unmarked.append(mark)
    return unmarked


def _require_same(found: Identity, cluster_id: str, mark: IdentityMark) -> None:
    if found.cluster_id != cluster_id:
        raise Rejected(
            f"the target's {mark.name} holds cluster {found.cluster_id}, the source is cluster "
            f"{cluster_id}; choose an empty one"
        )


async def _store_attempt(world: World, meta: MetaStore, cluster_id: str) -> Journal:
    pairs = {pair.key: pair for pair in await meta.range("storage/")}
    number = 1
    if JOURNAL_KEY in pairs:
        number += msgspec.json.decode(pairs[JOURNAL_KEY].value, type=Attempt).number
    attempt = Attempt(cluster_id=cluster_id, number=number)
    identity = Identity(cluster_id=cluster_id, complete=False, migrating=True)
    compares = [
        Compare(key, pairs[key].modified_revision if key in pairs else 0)
        for key in (META_KEY, JOURNAL_KEY)
    ]
    world.failpoints.hit("migrate.before_claim")
    result = await meta.transact(
        [
            Put(META_KEY, encode_identity(identity)),
            Put(JOURNAL_KEY, msgspec.json.encode(attempt)),
        ],
        compares,
    )
    _require_alone(result.succeeded)
    world.failpoints.hit("migrate.after_claim")
    logs = {
        key.removeprefix(LOG_PREFIX): msgspec.json.decode(pair.value, type=LogEntry)
        for key, pair in pairs.items()
        if key.startswith(LOG_PREFIX)
    }
    return Journal(world, meta, cluster_id, attempt, result.revision, logs)


def _require_alone(succeeded: bool) -> None:
    if not succeeded:
        raise Rejected("another migration into the same target has begun; this one ends")


async def require_complete(parts: Backends, cluster_id: str) -> None:
    """The target is a finished copy of ``cluster_id``. Raises CorruptData."""
    for mark in (parts.meta_mark, parts.wal.mark, parts.objects_mark):
        found = await mark.read()
        if found is None or not found.complete or found.cluster_id != cluster_id:
            state = "has no cluster id"
            if found is not None:
                state = f"belongs to cluster {found.cluster_id}"
                state += "" if found.complete else ", unfinished"
            raise CorruptData(f"the target's {mark.name} {state}; the source is {cluster_id}")
