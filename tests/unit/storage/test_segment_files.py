"""Segments come back as they were written; damaged files are named and never served."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from elanus.errors import CorruptData, InternalError
from elanus.runtime.world import World
from elanus.storage.disk import LocalDisk
from elanus.storage.formats.deltas import DeltaRows, read_deltas, write_delta_segment
from elanus.storage.formats.keys import SegmentPlace, place_of, segment_prefixes
from elanus.storage.formats.manifest import SegmentManifest, read_manifest
from elanus.storage.formats.segment_reader import open_segment
from elanus.storage.formats.segment_writer import write_segment
from elanus.storage.objects.base import ObjectStore
from elanus.storage.objects.local import LocalObjectStore
from elanus.storage.objects.memory import MemoryObjectStore

PLACE = SegmentPlace(1, 2, 3, 4)
DIM = 5


@pytest.fixture(params=["memory", "local"])
async def objects(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjectStore(world)
    return await LocalObjectStore.open(world, LocalDisk(), tmp_path / "objects")


def make_rows(count: int) -> pa.RecordBatch:
    vectors = pa.array(np.arange(count * DIM, dtype=np.float32))
    return pa.record_batch(
        {
            "pk": pa.array(range(10, 10 + count), pa.int64()),
            "flag": pa.array([n % 2 == 0 for n in range(count)]),
            "text/../odd name": pa.array([f"t{n:04}" for n in range(count)]),
            "price": pa.array([float("nan"), None, *(n / 2 for n in range(count - 2))]),
            "$meta": pa.array([b'{"a":1}'] * count, pa.binary()),
            "tags": pa.array([[n] * (n % 3) for n in range(count)], pa.list_(pa.int32())),
            "vector": pa.FixedSizeListArray.from_arrays(vectors, DIM),
        }
    )


def check_equal(files: Any, rows: Any, timestamps: Any) -> None:
    for name in rows.schema.names:
        if name == "vector":
            expected = rows[name].combine_chunks() if isinstance(rows, pa.Table) else rows[name]
            values = expected.flatten().to_numpy().reshape(-1, DIM)
            np.testing.assert_array_equal(files.vectors(name), values)
        else:
            # repr: NaN equals itself there
            assert repr(files.column(name).to_pylist()) == repr(rows[name].to_pylist())
    np.testing.assert_array_equal(files.timestamps, timestamps)


async def write(world: World, objects: ObjectStore, count: int = 50) -> tuple[str, SegmentManifest]:
    timestamps = np.arange(100, 100 + count, dtype=np.uint64)
    return await write_segment(
        world, objects, make_rows(count), timestamps, place=PLACE, schema_version=7
    )


async def test_a_segment_comes_back(world: World, objects: ObjectStore) -> None:
    key, manifest = await write(world, objects)
    files = await open_segment(world, objects, key)
    assert files.manifest == manifest
    check_equal(files, make_rows(50), np.arange(100, 150))
    assert (manifest.min_ts, manifest.max_ts, manifest.row_count) == (100, 149, 50)
    bounds = {c.field_name: (c.minimum, c.maximum, c.null_count) for c in manifest.columns}
    assert bounds["pk"] == (10, 59, 0)
    assert bounds["price"] == (0.0, 23.5, 1)
    assert bounds["text/../odd name"] == ("t0000", "t0049", 0)
    assert bounds["vector"] == (None, None, 0)


async def test_a_table_in_slices_is_one_segment(world: World, objects: ObjectStore) -> None:
    rows = make_rows(30)
    table = pa.Table.from_batches([rows.slice(0, 7), rows.slice(7, 1), rows.slice(8)])
    timestamps = np.arange(30, dtype=np.uint64)
    key, _ = await write_segment(world, objects, table, timestamps, place=PLACE, schema_version=0)
    check_equal(await open_segment(world, objects, key), table, timestamps)


async def test_columns_are_loaded_when_asked_for(world: World, objects: ObjectStore) -> None:
    key, _ = await write(world, objects)
    files = await open_segment(world, objects, key, fields=["pk"])
    assert len(files.column("pk")) == 50
    with pytest.raises(InternalError, match="vector"):
        files.vectors("vector")
    await files.load(["vector", "a field that was added later"])
    assert files.vectors("vector").shape == (50, DIM)


async def test_local_files_are_mapped(world: World, tmp_path: Path) -> None:
    objects = await LocalObjectStore.open(world, LocalDisk(), tmp_path)
    key, _ = await write(world, objects, 100_000)
    before = pa.total_allocated_bytes()
    files = await open_segment(world, objects, key, ["pk", "vector"])
    assert pa.total_allocated_bytes() - before < 100_000
    assert not files.vectors("vector").flags.owndata
    await objects.delete([info.key for info in await objects.list("")])
    assert files.column("pk")[-1].as_py() == 100_009


async def test_damage_to_any_file_is_reported_by_name(world: World, tmp_path: Path) -> None:
    objects = await LocalObjectStore.open(world, LocalDisk(), tmp_path)
    key, manifest = await write(world, objects)
    for damaged in [key, *(file.key for file in manifest.files)]:
        path = objects.path_of(damaged)
        good = path.read_bytes()
        middle = len(good) // 2
        flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        for bad in (flipped, good[:-1], good + b"\0", b""):
            path.write_bytes(bad)
            with pytest.raises(CorruptData, match=damaged):
                await open_segment(world, objects, key)
        path.unlink()
        with pytest.raises(CorruptData, match="missing"):
            await open_segment(world, objects, key)
        path.write_bytes(good)
    check_equal(await open_segment(world, objects, key), make_rows(50), np.arange(100, 150))


@pytest.mark.parametrize("keys", [pa.array([5, 6]), pa.array(["a", "ü"])])
async def test_deletes_come_back(world: World, objects: ObjectStore, keys: Any) -> None:
    rows = DeltaRows(keys, np.array([9, 2**63], np.uint64), np.array([-1, 4], np.int64))
    key, manifest = await write_delta_segment(world, objects, PLACE, rows)
    assert (manifest.min_ts, manifest.max_ts, manifest.row_count) == (9, 2**63, 0)
    (found,) = await read_deltas(world, objects, (await read_manifest(objects, key)).deltas)
    assert found.keys.equals(keys)
    assert found.timestamps.tolist() == [9, 2**63]
    assert found.partition_ids.tolist() == [-1, 4]


async def test_every_key_tells_its_place(world: World, objects: ObjectStore) -> None:
    await write(world, objects)
    keys = [info.key for info in await objects.list("")]
    assert {place_of(key) for key in keys} == {PLACE}
    assert all(key.startswith(segment_prefixes(1, 2, 3)) for key in keys)
    assert place_of("cluster.json") is None
