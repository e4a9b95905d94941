"""The simulated users: each owns some keys and does one thing after the other with them.

What a user knows survives the server's crashes. A write whose outcome is unknown is resolved by
the next Strong read before its user writes to that shard again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from elanus.engine.filter.compile import compile_filter
from elanus.errors import (
    CollectionNotLoaded,
    DiskFull,
    InvalidParameter,
    PartitionNotFound,
    Rejected,
    SchemaMismatch,
    Unavailable,
)
from elanus.model.catalog import ALL_PARTITIONS, DEFAULT_PARTITION, CollectionInfo
from elanus.model.reads import VectorQuery
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, MetricType
from elanus.services.messages import (
    PartitionRows,
    PrimaryKeys,
    QueryRequest,
    SearchRequest,
    WriteRequest,
)
from tests.simulation.data import (
    DIM,
    KEYS_OF_A_CLIENT,
    NAME,
    Contents,
    batch,
    check_search,
    extra_fields,
    partition_id,
    read_contents,
    shard_of,
)
from tests.simulation.imports import Import, begin_import, finish_import
from tests.simulation.oracle import Operation, Violation
from tests.simulation.shared import Shared
from tests.simulation.world import Server

T = TypeVar("T")

KEYS_IN_USE = 80
ORDINARY_SEARCHES = 0.2
MAX_EXTRA_FIELDS = 2
LONGEST_WAIT_S = 240.0
_RETRY_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Client:
    """One user. ``begin_life`` for each life of the server, then ``step`` again and again."""

    def __init__(self, number: int, shared: Shared) -> None:
        self.number = number
        self.shared = shared
        self.partition = f"p{number}"
        self.dropping: list[int] | None = None
        self.importing: Import | None = None
        first = number * KEYS_OF_A_CLIENT
        self.keys: list[list[int]] = [[] for _ in range(shared.shards)]
        for key in range(first, first + KEYS_IN_USE):
            self.keys[shard_of(key, shared.shards)].append(key)

    def begin_life(self, server: Server, rng: random.Random) -> None:
        self.server = server
        self.rng = rng
        self.info: CollectionInfo | None = None

    def home(self, key: int) -> str:
        return self.partition if key % 4 == 0 else DEFAULT_PARTITION

    # --- one step -------------------------------------------------------------------------------

    async def step(self) -> None:
        async with asyncio.timeout(LONGEST_WAIT_S):
            await self._finish()
        actions: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._write, 60),
            (self._read, 14),
            (self._search, 10),
            (self._count, 6),
            (self._read_again, 5),
            (self._flush, 4),
            (self._compact, 2),
            (self._pause, 4),
            (self._create_partition, 3),
            (self._drop_partition, 2),
            (self._reload, 1),
            (self._add_field, 1),
            (lambda: begin_import(self), 3),
        ]
        functions = [function for function, _ in actions]
        (chosen,) = self.rng.choices(functions, [weight for _, weight in actions])
        async with asyncio.timeout(LONGEST_WAIT_S):
            await chosen()

    async def _finish(self) -> None:
        """What a crash has interrupted and goes on."""
        if self.dropping is not None:
            await self._drop_partition()
        if self.importing is not None:
            await finish_import(self)

    async def settle(self) -> None:
        """Leave nothing pending."""
        async with asyncio.timeout(LONGEST_WAIT_S):
            await self._finish()
            for shard in range(self.shared.shards):
                await self.scan(shard)

    async def patiently(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat ``call`` while the server says to. What isn't loaded is loaded again."""
        pause_s = _RETRY_PAUSE_S
        while True:
            try:
                return await call()
            except CollectionNotLoaded:
                if not self.shared.releasing:
                    await self._load()
            except Unavailable as error:
                self.trace(f"{what}: {type(error).__name__}")
            await asyncio.sleep(pause_s * (0.5 + self.rng.random()))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    def trace(self, text: str) -> None:
        self.shared.trace(f"client {self.number}: {text}")

    # --- writes ---------------------------------------------------------------------------------

    async def _write(self) -> None:
        shard = self.rng.randrange(self.shared.shards)
        track = self.shared.tracks[self.number, shard]
        if track.pending is not None:
            await self.scan(shard)
        info = await self.described()
        rows = track.now()
        exists = {DEFAULT_PARTITION, self.partition}.intersection(info.partition_by_name)
        usable = [key for key in self.keys[shard] if self.home(key) in exists]
        kind = self.rng.choices(["insert", "upsert", "delete"], [5, 3, 3])[0]
        if kind == "insert":
            usable = [key for key in usable if key not in rows]
        chosen = self.rng.sample(usable, min(len(usable), self.rng.choice([1, 2, 5, 10, 30])))
        if not chosen:
            return
        operation = Operation(
            op_id=self.shared.next_op_id(),
            deletes=tuple(chosen) if kind != "insert" else (),
            inserts=tuple(chosen) if kind != "delete" else (),
            started_ts=track.last_ts,
        )
        await self._send(shard, info, operation, kind)

    async def _send(
        self, shard: int, info: CollectionInfo, operation: Operation, kind: str
    ) -> None:
        track = self.shared.tracks[self.number, shard]
        request = self._request(shard, info, operation)
        self.shared.written_fields[operation.op_id] = extra_fields(info.schema)
        track.begin(operation)
        try:
            node = await self.server.router.streaming_node(request.vchannel)
            timestamp = await node.write(request)
        except (SchemaMismatch, PartitionNotFound, DiskFull) as error:
            # These promise that nothing was written.
            track.absent()
            self.info = None
            outcome = type(error).__name__
        except Unavailable as error:
            outcome = f"{type(error).__name__}, unknown"
        else:
            track.applied(timestamp)
            outcome = str(timestamp)
        self.trace(f"{kind} {operation.op_id} of {len(request_keys(operation))} rows: {outcome}")

    def _request(self, shard: int, info: CollectionInfo, operation: Operation) -> WriteRequest:
        by_home: dict[str, list[int]] = {}
        for key in operation.inserts:
            by_home.setdefault(self.home(key), []).append(key)
        deletes: tuple[PrimaryKeys, ...] = ()
        if operation.deletes:
            keys = pa.array(operation.deletes, pa.int64())
            deletes = (PrimaryKeys(keys, ALL_PARTITIONS),)
        inserts = [
            PartitionRows(info.partition_by_name[home].partition_id, rows)
            for home, rows in (
                (home, batch(info.schema, keys, operation.op_id))
                for home, keys in sorted(by_home.items())
            )
        ]
        return WriteRequest(
            vchannel=info.vchannels[shard],
            collection_id=info.collection_id,
            schema_version=info.schema.version,
            inserts=tuple(inserts),
            deletes=deletes,
        )

    # --- reads ----------------------------------------------------------------------------------

    async def scan(self, shard: int) -> Contents:
        """Everything in a shard, Strong; resolves what is pending of this user there."""
        track = self.shared.tracks[self.number, shard]
        pending = track.pending
        contents = await self.strong_contents(shard)
        self.shared.check(shard, contents, "a scan")
        if pending is not None and self.dropping is None and self.importing is None:
            outcome = track.resolve(contents.read_ts, *contents.of_client(self.number))
            self.trace(f"operation {pending.op_id} is {outcome}")
        self.shared.snapshots.append((shard, contents, self.shared.breaks))
        return contents

    async def strong_contents(self, shard: int) -> Contents:
        return await self.patiently("scan", lambda: self._contents(shard))

    async def _contents(
        self, shard: int, read_ts: int = 0, expression: str | None = None
    ) -> Contents:
        info = await self.described(fresh=True)
        now_ts = await self.server.coordinator.allocate_timestamps(1)
        guarantee_ts = read_ts or now_ts
        node = await self.server.router.streaming_node(info.vchannels[shard])
        response = await node.query(
            QueryRequest(
                collection_id=info.collection_id,
                vchannel=info.vchannels[shard],
                guarantee_ts=guarantee_ts,
                read_ts=read_ts,
                plan=None if expression is None else compile_filter(expression, info.schema),
                output_fields=("id", "value", "vector", *extra_fields(info.schema)),
            )
        )
        if response.read_ts < guarantee_ts or (read_ts and response.read_ts != read_ts):
            raise Violation(f"a read at {read_ts} from {guarantee_ts} on is at {response.read_ts}")
        contents = read_contents(response, self.shared.written_fields)
        if response.count != len(contents.rows):
            raise Violation(f"{len(contents.rows)} rows, count {response.count}")
        self.trace(f"shard {shard} has {len(contents.rows)} rows at {contents.read_ts}")
        return contents

    async def _read(self) -> None:
        shard = self.rng.randrange(self.shared.shards)
        breaks = self.shared.breaks
        contents = await self.scan(shard)
        if self.rng.random() < 0.5:
            filtered = await self.patiently(
                "filter", lambda: self._contents(shard, contents.read_ts, "value % 3 == 1")
            )
            expected = {key: op for key, op in contents.rows.items() if op % 3 == 1}
            if self.shared.is_one_history(breaks):
                self._same(shard, contents.read_ts, expected, filtered.rows, "a filter")

    async def _read_again(self) -> None:
        """At an instant that was read before."""
        if not self.shared.snapshots:
            return
        shard, before, breaks = self.rng.choice(self.shared.snapshots)
        again = await self.patiently("read again", lambda: self._contents(shard, before.read_ts))
        if self.shared.is_one_history(breaks):
            self._same(shard, before.read_ts, before.rows, again.rows, "a second read")

    def _same(
        self, shard: int, read_ts: int, expected: dict[int, int], found: dict[int, int], what: str
    ) -> None:
        """What a read that goes back to ``read_ts`` finds."""
        lacks = {
            key: op
            for key, op in expected.items()
            if found.get(key) != op and not self.shared.may_be_gone(shard, key, read_ts)
        }
        if lacks or not found.items() <= expected.items():
            surplus = {key: op for key, op in found.items() if expected.get(key) != op}
            raise Violation(f"{what} at {read_ts} lacks {lacks} and has {surplus}")

    async def _count(self) -> None:
        shard = self.rng.randrange(self.shared.shards)

        async def count() -> tuple[int, int]:
            info = await self.described()
            now_ts = await self.server.coordinator.allocate_timestamps(1)
            node = await self.server.router.streaming_node(info.vchannels[shard])
            response = await node.query(
                QueryRequest(info.collection_id, info.vchannels[shard], now_ts, count_only=True)
            )
            return response.read_ts, response.count

        read_ts, found = await self.patiently("count", count)
        self.trace(f"shard {shard} has count {found} at {read_ts}")
        self.shared.check_count(shard, read_ts, found)

    async def _search(self) -> None:
        """Against the distances to everything that a scan at the same instant finds."""
        shard = self.rng.randrange(self.shared.shards)
        query = np.array([[self.rng.randrange(97) for _ in range(DIM)]], np.float32)
        top_k = self.rng.choice([1, 3, 10])
        expression = self.rng.choice([None, None, "value % 2 == 0"])
        breaks = self.shared.breaks

        async def search() -> tuple[Any, Contents]:
            info = await self.described()
            now_ts = await self.server.coordinator.allocate_timestamps(1)
            node = await self.server.router.streaming_node(info.vchannels[shard])
            request = SearchRequest(
                collection_id=info.collection_id,
                vchannel=info.vchannels[shard],
                query=VectorQuery(
                    "vector", MetricType.L2, query, top_k, {"ef": 512, "nprobe": 512}
                ),
                guarantee_ts=now_ts,
                read_ts=now_ts,
                plan=None if expression is None else compile_filter(expression, info.schema),
                output_fields=("id", "value"),
            )
            response, contents = await asyncio.gather(
                self._found(node, request, info), self._contents(shard, now_ts, expression)
            )
            return response, contents

        response, contents = await self.patiently("search", search)
        if self.shared.is_one_history(breaks):
            read_ts = contents.read_ts
            rows = {**self.shared.rows_at(shard, read_ts, expression), **contents.rows}
            check_search(
                rows,
                lambda key: (
                    key in contents.rows and not self.shared.may_be_gone(shard, key, read_ts)
                ),
                response,
                query[0],
                top_k,
            )
            self.trace(f"search found {response.hits.keys.tolist()}")

    async def _found(self, node: Any, request: SearchRequest, info: CollectionInfo) -> Any:
        """The answer of the shard, or of its parts, asked by themselves."""
        if self.rng.random() < ORDINARY_SEARCHES:
            return await node.search(request)
        return await self.server.searches.search(node, request, info.schema)

    # --- administration -------------------------------------------------------------------------

    async def described(self, *, fresh: bool = False) -> CollectionInfo:
        if self.info is None or fresh:
            coordinator = self.server.coordinator
            self.info = await self.patiently(
                "describe", lambda: coordinator.describe_collection("default", NAME)
            )
        return self.info

    async def _flush(self) -> None:
        info = await self.described()
        tickets = await self.patiently(
            "flush", lambda: self.server.coordinator.flush(info.collection_id)
        )
        self.trace(f"flush of {[ticket.segment_ids for ticket in tickets]}")

    async def _compact(self) -> None:
        info = await self.described()
        _, plans = await self.patiently(
            "compact", lambda: self.server.coordinator.compact(info.collection_id)
        )
        self.trace(f"{plans} compactions")

    async def _pause(self) -> None:
        await asyncio.sleep(self.rng.choice([0.1, 0.5, 4.0]) * self.rng.random())

    async def _create_partition(self) -> None:
        coordinator = self.server.coordinator
        await self.patiently(
            "create partition",
            lambda: coordinator.create_partition("default", NAME, self.partition),
        )
        self.info = None
        self.trace("created its partition")

    async def _load(self) -> None:
        info = await self.described()
        coordinator = self.server.coordinator
        await self.patiently("load", lambda: coordinator.load(info.collection_id, (), 1))

    async def _release(self) -> None:
        info = await self.described()
        coordinator = self.server.coordinator
        await self.patiently("release", lambda: coordinator.release(info.collection_id, ()))

    async def _reload(self) -> None:
        self.trace("releases and loads")
        await self._release()
        await self._load()

    async def _drop_partition(self) -> None:
        """Drop the user's own partition, which takes its rows; nothing may be loaded then."""
        info = await self.described(fresh=True)
        if self.dropping is None:
            if partition_id(info, self.partition) is None:
                return
            for shard in range(self.shared.shards):
                if self.shared.tracks[self.number, shard].pending is not None:
                    await self.scan(shard)
            self._begin_dropping()
        self.shared.releasing += 1
        try:
            await self._try_to_drop()
        finally:
            self.shared.releasing -= 1
        now_ts = await self.patiently(
            "timestamp", lambda: self.server.coordinator.allocate_timestamps(1)
        )
        assert self.dropping is not None
        for shard in range(self.shared.shards):
            self.shared.tracks[self.number, shard].emptied(self.dropping, now_ts)
        self.dropping = None
        self.info = None
        self.shared.breaks += 1
        self.trace("dropped its partition")
        await self._load()

    def _begin_dropping(self) -> None:
        everything = [key for keys in self.keys for key in keys]
        self.dropping = [key for key in everything if self.home(key) == self.partition]
        for shard in range(self.shared.shards):
            track = self.shared.tracks[self.number, shard]
            keys = tuple(self.dropping)
            track.begin(Operation(self.shared.next_op_id(), keys, (), track.last_ts))

    async def _try_to_drop(self) -> None:
        coordinator = self.server.coordinator
        while True:
            await self._release()
            try:
                await self.patiently(
                    "drop partition",
                    lambda: coordinator.drop_partition("default", NAME, self.partition),
                )
            except Rejected as error:
                self.trace(f"partition not dropped: {error}")
            else:
                return

    async def _add_field(self) -> None:
        info = await self.described(fresh=True)
        number = len(extra_fields(info.schema))
        if number >= MAX_EXTRA_FIELDS:
            return
        added = FieldSchema(name=f"extra{number}", data_type=DataType.INT64, nullable=True)
        try:
            await self.patiently(
                "add field", lambda: self.server.coordinator.add_field("default", NAME, added)
            )
        except InvalidParameter as error:
            self.trace(f"field not added: {error}")
        self.info = None
        self.trace(f"added {added.name}")


def request_keys(operation: Operation) -> tuple[int, ...]:
    return operation.inserts or operation.deletes
