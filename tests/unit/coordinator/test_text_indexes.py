"""Token indexes follow from the schema: built, made again by compaction, gone with the segment."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from tests.unit.coordinator.support import Rig, make_commit, make_schema, make_segment, running
from tests.unit.coordinator.test_coordinator_ddl import vector_index

from elanus.config.settings import CompactionSettings, DataCoordSettings, Settings
from elanus.engine.text.index import open_text_index
from elanus.model.catalog import CollectionInfo, SegmentIndex, SegmentInfo
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, IndexState
from elanus.storage.formats.keys import SegmentPlace
from elanus.storage.formats.segment_writer import write_segment
from elanus.storage.meta.base import MetaStore

INDEXING = Settings(
    data_coord=DataCoordSettings(
        min_segment_num_rows_to_enable_index=2,
        compaction=CompactionSettings(enable_auto_compaction=False),
    )
)
WORDS = FieldSchema(
    name="words",
    data_type=DataType.VARCHAR,
    type_params={"max_length": "100", "enable_match": "true", "enable_analyzer": "true"},
)


async def flushed(rig: Rig, info: CollectionInfo, segment_id: int, texts: list[str]) -> SegmentInfo:
    place = SegmentPlace(
        info.collection_id,
        info.partitions[0].partition_id,
        segment_id,
        await rig.coordinator.allocate_ids(),
    )
    keys = np.arange(len(texts)) + segment_id * 10
    vectors = pa.array(np.ones(len(texts) * 4, np.float32))
    batch = pa.record_batch(
        {
            "id": pa.array(keys),
            "v": pa.FixedSizeListArray.from_arrays(vectors, 4),
            "words": pa.array(texts),
        }
    )
    stamps = np.full(len(texts), segment_id, np.uint64)
    key, manifest = await write_segment(
        rig.world, rig.objects, batch, stamps, place=place, schema_version=0
    )
    return make_segment(info, segment_id, row_count=manifest.row_count, manifest_key=key)


def part_of(rig: Rig, info: CollectionInfo, segment_id: int) -> SegmentIndex | None:
    """The finished part of the token index."""
    (index,) = info.text_indexes
    segment = rig.coordinator._catalog.segment(info.collection_id, segment_id)
    parts = () if segment is None else segment.indexes
    return next((p for p in parts if (p.index_id, p.state) == (index.index_id, FINISHED)), None)


FINISHED = IndexState.FINISHED


async def matches(rig: Rig, part: SegmentIndex, rows: int, path: Path, word: str) -> list[bool]:
    path.write_bytes(await rig.objects.get(part.key))  # noqa: ASYNC240
    return open_text_index(str(path), rows).match([word]).mask.tolist()


async def test_a_token_index_lives_as_long_as_its_segment(meta: MetaStore, tmp_path: Path) -> None:
    async with running(meta, settings=INDEXING, scratch=tmp_path / "scratch") as rig:
        c = rig.coordinator
        info = await rig.create(schema=make_schema("c", WORDS))
        await c.create_index(vector_index(info))
        await c.load(info.collection_id, (), 1)
        one = await flushed(rig, info, 1, ["red wine", "green apple"])
        two = await flushed(rig, info, 2, ["red apple", "pie"])
        small = await flushed(rig, info, 3, ["red"])
        await c.commit_flush(make_commit(info, one, two, small))
        await rig.until(lambda: all(part_of(rig, info, n) for n in (1, 2, 3)))
        part = part_of(rig, info, 1)
        assert part is not None
        assert await matches(rig, part, 2, tmp_path / "one", "red") == [True, False]
        assert part_of(rig, info, 3).key == ""  # type: ignore[union-attr]
        await rig.until(lambda: part in rig.query.held[1].segment.indexes)
        assert info.text_indexes[0] in rig.query.held[1].indexes
        # Nobody sees an index that nobody has defined.
        assert [index.field_name for index in await c.list_indexes(info.collection_id)] == ["v"]
        await c.create_index(
            vector_index(info, field_name="id", index_type="STL_SORT", metric_type=None, params={})
        )
        assert part_of(rig, info, 1) == part

        await c.compact(info.collection_id)
        flushed_now = rig.coordinator._catalog.flushed
        await rig.until(lambda: len(flushed_now(info.collection_id)) == 1)
        (merged,) = flushed_now(info.collection_id)
        await rig.until(lambda: part_of(rig, info, merged.segment_id) is not None)
        made = part_of(rig, info, merged.segment_id)
        assert made is not None
        found = await matches(rig, made, 5, tmp_path / "merged", "red")
        assert found == [True, False, True, False, True]
        await rig.until(lambda: not any(map(rig.coordinator._parts.loads.holds, (one, two))))
        await c.collect_garbage()
        left = {stored.key for stored in await rig.objects.list("index_files/")}
        assert made.key in left
        assert part.key not in left


async def test_a_damaged_file_is_built_again(meta: MetaStore, tmp_path: Path) -> None:
    async with running(meta, settings=INDEXING, scratch=tmp_path / "scratch") as rig:
        info = await rig.create(schema=make_schema("c", WORDS))
        one = await flushed(rig, info, 1, ["red wine", "green apple"])
        await rig.coordinator.commit_flush(make_commit(info, one))
        await rig.until(lambda: part_of(rig, info, 1) is not None)
        damaged = part_of(rig, info, 1)
        assert damaged is not None
        segment = rig.coordinator._catalog.segment(info.collection_id, 1)
        rig.coordinator._parts.index_tasks.rebuild(segment, (damaged.key,))
        await rig.until(lambda: part_of(rig, info, 1) not in (None, damaged))
        again = part_of(rig, info, 1)
        assert again is not None
        assert again.key != damaged.key
        assert await matches(rig, again, 2, tmp_path / "again", "apple") == [False, True]
