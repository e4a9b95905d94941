"""Files of token indexes: built by a data node, mapped by a query node, named when damaged."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tests.unit.coordinator.support import make_world
from tests.unit.workers.query.ids import Ids

from elanus.config.settings import Settings
from elanus.engine.filter.compile import compile_filter
from elanus.model.catalog import CollectionInfo, PartitionInfo, SegmentInfo
from elanus.model.reads import Snapshot
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.timestamp import MAX_TIMESTAMP
from elanus.model.types import ConsistencyLevel, DataType, SegmentLevel, SegmentState
from elanus.services.messages import IndexTask, LoadSegment, SegmentQuery
from elanus.storage.disk import LocalDisk
from elanus.storage.formats.keys import SegmentPlace
from elanus.storage.formats.segment_writer import write_segment
from elanus.storage.objects.local import LocalObjectStore
from elanus.workers.data.builder import InProcessBuilder
from elanus.workers.data.importing.importer import InProcessImporter
from elanus.workers.data.node import DataNode
from elanus.workers.query.node import QueryNode

TEXTS = ["the red foxes", "a green apple", None, "Apple and fox", ""]
WORDS = FieldSchema(
    name="words",
    field_id=101,
    data_type=DataType.VARCHAR,
    nullable=True,
    type_params={
        "max_length": "100",
        "enable_match": "true",
        "enable_analyzer": "true",
        "analyzer_params": '{"type": "english"}',
    },
)
COLLECTION = CollectionInfo(
    collection_id=1,
    database="default",
    schema=CollectionSchema(
        name="c",
        fields=(
            FieldSchema(name="id", field_id=100, data_type=DataType.INT64, is_primary=True),
            WORDS,
        ),
    ),
    vchannels=("p_0_1v0",),
    partitions=(PartitionInfo(partition_id=5, name="_default", created_ts=1),),
    consistency_level=ConsistencyLevel.STRONG,
    created_ts=1,
    updated_ts=1,
)


@dataclass
class Bench:
    objects: LocalObjectStore
    data: DataNode
    query: QueryNode
    segment: SegmentInfo

    async def indexed(self) -> SegmentInfo:
        """The next version of the segment, with a file of its own."""
        (index,) = COLLECTION.text_indexes
        result = await self.data.build_index(IndexTask(1, self.segment, COLLECTION, index))
        self.segment = msgspec.structs.replace(result.segments[0], version=self.segment.version + 1)
        return self.segment

    async def load(self) -> tuple[str, ...]:
        """The keys of index files that can't be used."""
        return await self.query.load_segment(
            LoadSegment(self.segment, COLLECTION, COLLECTION.text_indexes, ())
        )

    async def ids(self, expression: str) -> list[int]:
        plan = compile_filter(expression, COLLECTION.schema)
        asked = SegmentQuery((self.segment.segment_id,), Snapshot(MAX_TIMESTAMP - 1), plan)
        found = await self.query.query(asked)
        assert found.rows is not None
        return np.asarray(found.rows.keys).tolist()

    async def assert_words_are_found(self) -> None:
        assert await self.ids('text_match(words, "FOX")') == [0, 3]
        assert await self.ids('text_match(words, "apples red")') == [0, 1, 3]
        assert await self.ids('phrase_match(words, "green apple")') == [1]

    @property
    def memory_bytes(self) -> int:
        return self.query._segments[self.segment.segment_id].segment.size_bytes


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    world = make_world()
    objects = await LocalObjectStore.open(world, LocalDisk(), tmp_path / "objects")
    ids = Ids()
    batch = pa.record_batch({"id": pa.array(range(len(TEXTS))), "words": pa.array(TEXTS)})
    stamps = np.arange(1, len(TEXTS) + 1, dtype=np.uint64)
    place = SegmentPlace(1, 5, 7, await ids.allocate_ids())
    key, manifest = await write_segment(
        world, objects, batch, stamps, place=place, schema_version=0
    )
    segment = SegmentInfo(
        segment_id=7,
        collection_id=1,
        partition_id=5,
        vchannel=COLLECTION.vchannels[0],
        state=SegmentState.FLUSHED,
        level=SegmentLevel.L1,
        row_count=manifest.row_count,
        min_ts=manifest.min_ts,
        max_ts=manifest.max_ts,
        manifest_key=key,
    )
    data = DataNode(
        world,
        Settings(),
        objects=objects,
        oracle=ids,
        builder=InProcessBuilder(world),
        importer=InProcessImporter(world),
        scratch=tmp_path / "scratch",
    )
    return Bench(objects, data, QueryNode(world, Settings().query_node, objects, slots=1), segment)


async def test_words_are_found_without_a_file_and_with_one(bench: Bench) -> None:
    assert await bench.load() == ()
    await bench.assert_words_are_found()
    without = bench.memory_bytes
    await bench.indexed()
    assert await bench.load() == ()
    await bench.assert_words_are_found()
    assert bench.memory_bytes < without


async def test_a_fresh_load_analyses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.indexed()
    monkeypatch.setattr("elanus.engine.segment.texts.build_text_index", None)
    assert await bench.load() == ()
    await bench.assert_words_are_found()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
async def test_a_damaged_file_is_named_and_words_are_found_all_the_same(
    bench: Bench, damage: str
) -> None:
    (part,) = (await bench.indexed()).indexes
    path = bench.objects.path_of(part.key)
    assert path is not None
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-70])
    assert await bench.load() == (part.key,)
    await bench.assert_words_are_found()
    await bench.indexed()
    assert await bench.load() == ()
    await bench.assert_words_are_found()
