"""Segments with indexes in an object store that fails and damages on demand, for query nodes whose
local cache is smaller than the data."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pyarrow as pa
from tests.unit.workers.query.ids import Ids
from tests.worlds import running_world

from elanus.config.settings import QueryNodeSettings, Settings
from elanus.config.tiered import SegcoreSettings, TieredStorageSettings, WarmupSettings
from elanus.errors import Unavailable
from elanus.model.catalog import CollectionInfo, IndexInfo, PartitionInfo, SegmentInfo
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import ConsistencyLevel, DataType, MetricType, SegmentLevel, SegmentState
from elanus.runtime.world import World
from elanus.services.messages import IndexTask, LoadSegment
from elanus.storage.formats.keys import SegmentPlace
from elanus.storage.formats.segment_writer import write_segment
from elanus.storage.objects.base import Buffer, ObjectNotFound, ObjectStream
from elanus.storage.objects.cached import CachedObjectStore
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.workers.data.builder import InProcessBuilder
from elanus.workers.data.importing.importer import InProcessImporter
from elanus.workers.data.node import DataNode
from elanus.workers.query.node import QueryNode

DIM = 16
ROWS = 200
SEGMENTS = 5
WORDS = ("red fox", "green apple", "blue sea", "fox and apple")
NLIST = "4"
PARTITION = 5

SCHEMA = CollectionSchema(
    name="c",
    fields=(
        FieldSchema(name="id", field_id=100, data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="value", field_id=101, data_type=DataType.INT64),
        FieldSchema(name="plain", field_id=102, data_type=DataType.INT64),
        FieldSchema(
            name="words",
            field_id=103,
            data_type=DataType.VARCHAR,
            type_params={
                "max_length": "100",
                "enable_match": "true",
                "enable_analyzer": "true",
            },
        ),
        FieldSchema(
            name="vector",
            field_id=104,
            data_type=DataType.FLOAT_VECTOR,
            type_params={"dim": str(DIM)},
        ),
    ),
)
COLLECTION = CollectionInfo(
    collection_id=1,
    database="default",
    schema=SCHEMA,
    vchannels=("p_0_1v0",),
    partitions=(PartitionInfo(partition_id=PARTITION, name="_default", created_ts=1),),
    consistency_level=ConsistencyLevel.STRONG,
    created_ts=1,
    updated_ts=1,
)


def _index(number: int, name: str, kind: str, metric: MetricType | None = None) -> IndexInfo:
    return IndexInfo(
        index_id=number,
        collection_id=1,
        field_name=name,
        name=name,
        index_type=kind,
        metric_type=metric,
        created_ts=1,
        params={"nlist": NLIST} if metric else {},
    )


INDEXES = (
    _index(11, "vector", "IVF_FLAT", MetricType.L2),
    _index(12, "value", "STL_SORT"),
    *COLLECTION.text_indexes,
)


@dataclass(frozen=True)
class Data:
    """All rows of the segments, which hold them in turn. ids: int64 (n,). vectors: float32 (n,
    DIM). timestamps: uint64 (n,)."""

    objects: dict[str, tuple[bytes, int]]
    segments: tuple[SegmentInfo, ...]
    ids: np.ndarray
    values: np.ndarray
    words: np.ndarray
    vectors: np.ndarray
    timestamps: np.ndarray

    def request(self, number: int, version: int = 0) -> LoadSegment:
        segment = self.segments[number]
        newer = msgspec.structs.replace(segment, version=segment.version + version)
        return LoadSegment(newer, COLLECTION, INDEXES, ())

    def files_of(self, number: int) -> int:
        """Bytes of the files of one segment."""
        prefix = f"/{PARTITION}/{number + 1}/"
        return sum(len(data) for key, (data, _) in self.objects.items() if prefix in key)

    @property
    def size_bytes(self) -> int:
        return sum(map(self.files_of, range(SEGMENTS)))


@cache
def data() -> Data:
    """Built once."""
    with TemporaryDirectory() as scratch:
        return asyncio.run(_built(Path(scratch)))


async def _built(scratch: Path) -> Data:
    generator = np.random.default_rng(3)
    count = ROWS * SEGMENTS
    ids = np.arange(count)
    values = generator.integers(0, 100, count)
    words = np.array(WORDS)[generator.integers(0, len(WORDS), count)]
    vectors = generator.normal(size=(count, DIM)).astype(np.float32)
    timestamps = np.arange(1, count + 1, dtype=np.uint64)
    async with running_world() as world:
        objects = MemoryObjectStore(world)
        node = DataNode(
            world,
            Settings(),
            objects=objects,
            oracle=Ids(),
            builder=InProcessBuilder(world),
            importer=InProcessImporter(world),
            scratch=scratch,
        )
        segments = []
        for number in range(SEGMENTS):
            at = np.arange(number, count, SEGMENTS)
            batch = pa.record_batch(
                {
                    "id": pa.array(ids[at]),
                    "value": pa.array(values[at]),
                    "plain": pa.array(values[at]),
                    "words": pa.array(words[at]),
                    "vector": pa.FixedSizeListArray.from_arrays(
                        pa.array(vectors[at].reshape(-1)), DIM
                    ),
                }
            )
            place = SegmentPlace(1, PARTITION, number + 1, 7)
            key, manifest = await write_segment(
                world, objects, batch, timestamps[at], place=place, schema_version=0
            )
            segment = SegmentInfo(
                segment_id=number + 1,
                collection_id=1,
                partition_id=PARTITION,
                vchannel=COLLECTION.vchannels[0],
                state=SegmentState.FLUSHED,
                level=SegmentLevel.L1,
                row_count=manifest.row_count,
                min_ts=manifest.min_ts,
                max_ts=manifest.max_ts,
                manifest_key=key,
            )
            for task, index in enumerate(INDEXES):
                done = await node.build_index(IndexTask(task, segment, COLLECTION, index))
                segment = done.segments[0]
            segments.append(segment)
        found = {info.key: (await objects.get(info.key), 0) for info in await objects.list("")}
    return Data(found, tuple(segments), ids, values, words, vectors, timestamps)


class FaultyStore(MemoryObjectStore):
    """``fetched``: keys of streams that were asked for. ``failing``: they fail. ``damaged``: keys
    whose next stream has a wrong byte. ``gate``: holds streams back."""

    def __init__(self, world: World, objects: dict[str, tuple[bytes, int]]) -> None:
        super().__init__(world)
        self._objects = dict(objects)
        self.fetched: list[str] = []
        self.failing = False
        self.damaged: set[str] = set()
        self.gate: asyncio.Event | None = None

    @asynccontextmanager
    async def stream(self, key: str) -> AsyncIterator[ObjectStream]:
        data = await self.get(key)
        self.fetched.append(key)
        if self.gate is not None:
            await self.gate.wait()
        if self.failing:
            raise Unavailable("the store is away")
        if key in self.damaged:
            self.damaged.discard(key)
            data = data[:-1] + bytes([data[-1] ^ 1])

        async def chunks() -> AsyncIterator[Buffer]:
            await asyncio.sleep(0)
            yield data

        yield ObjectStream(len(data), chunks())

    def lose(self, keys: Iterable[str]) -> None:
        for key in keys:
            if self._objects.pop(key, None) is None:
                raise ObjectNotFound(key)


@dataclass
class Bench:
    world: World
    store: FaultyStore
    cache: CachedObjectStore
    node: QueryNode
    directory: Path

    def disk_bytes(self) -> int:
        """That the cache takes, with files that have no name any more but are mapped."""
        named = sum(path.stat().st_size for path in self.directory.iterdir())
        return named + sum(self.nameless().values())

    def nameless(self) -> dict[str, int]:
        """Deleted files of the cache that are mapped, with their mapped bytes."""
        found: dict[str, int] = {}
        for line in Path("/proc/self/maps").read_text().splitlines():
            if str(self.directory) in line and line.endswith("(deleted)"):
                start, _, end = line.split()[0].partition("-")
                found[line.split(maxsplit=5)[5]] = int(end, 16) - int(start, 16)
        return found


@asynccontextmanager
async def bench(
    directory: Path, max_bytes: int, warmup: str = "disable", *, evicts: bool = True
) -> AsyncIterator[Bench]:
    tiered = TieredStorageSettings(
        warmup=WarmupSettings(
            scalar_field=warmup, scalar_index=warmup, vector_field=warmup, vector_index=warmup
        ),
        eviction_enabled=evicts,
    )
    settings = QueryNodeSettings(segcore=SegcoreSettings(tiered_storage=tiered))
    async with running_world() as world:
        store = FaultyStore(world, data().objects)
        copies = await CachedObjectStore.open(
            world, store, directory / "cache", max_bytes, low=0.75, high=0.8
        )
        node = QueryNode(world, settings, copies, slots=2)
        yield Bench(world, store, copies, node, directory / "cache")
        await copies.close()
