"""Bulk imports through the clients' own helpers, of files that their own writers make."""

import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from minio import Minio
from pymilvus import DataType, MilvusClient, MilvusException, connections, utility
from pymilvus.bulk_writer import (
    BulkFileType,
    LocalBulkWriter,
    bulk_import,
    get_import_progress,
    list_import_jobs,
)

from conftest import DIM, URI

ROWS = 3_000
TIMEOUT_S = 120


@dataclass
class Folder:
    """A new directory in the server's object store, by its key. Files are made under ``path``."""

    path: Path
    key: str
    store: str

    def upload(self):
        """Bring what was made into the store, unless it was made there."""
        if "://" not in self.store:
            return
        url = urlsplit(self.store)
        bucket, _, root = url.path.strip("/").partition("/")
        store = Minio(
            f"{url.hostname}:{url.port}", url.username, url.password, secure=url.scheme == "https"
        )
        for file in self.path.rglob("*.*"):
            key = f"{root}/{self.key}/{file.relative_to(self.path)}"
            store.fput_object(bucket, key, str(file))


@pytest.fixture
def folder(tmp_path):
    """``ELANUS_OBJECTS``: the store's directory, or http://key:secret@host:port/bucket/root."""
    store, key = os.environ["ELANUS_OBJECTS"], f"imports/{uuid.uuid4().hex[:12]}"
    path = tmp_path / "files" if "://" in store else Path(store) / key
    path.mkdir(parents=True)
    return Folder(path, key, store)


@pytest.fixture
def schema():
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("title", DataType.VARCHAR, max_length=64)
    schema.add_field("size", DataType.INT16, nullable=True)
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.INT32, max_capacity=8)
    schema.add_field("facts", DataType.JSON)
    schema.add_field("flags", DataType.BINARY_VECTOR, dim=16)
    return schema


@pytest.fixture
def loaded(client, name, schema):
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    index.add_index("flags", index_type="BIN_FLAT", metric_type="HAMMING")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    return name


def made_rows(count=ROWS):
    vectors = np.random.default_rng(9).normal(size=(count, DIM)).astype(np.float32)
    return [
        {
            "id": n,
            "vector": vectors[n].tolist(),
            "title": f"title, {n}",
            "size": None if n % 7 == 0 else n % 1_000,
            "tags": [n % 5, n % 3],
            "facts": {"n": n},
            "flags": [n % 256, 7],
            "color": "red" if n % 2 else "blue",
        }
        for n in range(count)
    ]


def written(folder, schema, rows, file_type):
    path, key = folder.path, folder.key
    with LocalBulkWriter(schema, str(path), file_type=file_type) as writer:
        for row in rows:
            bits = np.unpackbits(np.array(row["flags"], np.uint8)).tolist()
            writer.append_row({**row, "flags": bits})
        writer.commit()
        batches = writer.batch_files
    folder.upload()
    return [[f"{key}/{Path(file).relative_to(path)}" for file in batch] for batch in batches]


def finished(job_id):
    """What is told of a job when it is over."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        data = get_import_progress(URI, job_id=job_id, api_key="").json()["data"]
        if data["state"] in ("Completed", "Failed"):
            return data
        assert time.monotonic() < deadline, data
        time.sleep(0.1)


def imported(name, files, **options):
    answer = bulk_import(URI, name, files=files, **options).json()
    return answer["data"]["jobId"]


def count_of(client, name):
    return client.query(name, output_fields=["count(*)"])[0]["count(*)"]


FILE_TYPES = [BulkFileType.PARQUET, BulkFileType.JSON, BulkFileType.CSV]


@pytest.mark.parametrize("file_type", FILE_TYPES, ids=lambda kind: kind.name.lower())
def test_rows_of_a_bulk_writer_are_there_when_the_job_is(client, loaded, schema, folder, file_type):
    rows = made_rows()
    job_id = imported(loaded, written(folder, schema, rows, file_type))
    told = finished(job_id)
    assert told["state"] == "Completed", told
    assert (told["importedRows"], told["progress"]) == (ROWS, 100)
    listed = list_import_jobs(URI, collection_name=loaded, api_key="").json()["data"]["records"]
    assert [job["jobId"] for job in listed] == [job_id]
    assert count_of(client, loaded) == ROWS
    wanted = [0, 6, 7, ROWS - 1]
    found = client.query(loaded, filter=f"id in {wanted}", output_fields=["*"])
    for row in found:
        source = rows[row["id"]]
        assert np.allclose(row["vector"], source["vector"])
        assert [row["flags"][0]] == [bytes(source["flags"])]
        for key in ("title", "size", "tags", "facts", "color"):
            assert row[key] == source[key], key
    assert [row["id"] for row in found] == wanted
    hits = client.search(loaded, [rows[11]["vector"]], anns_field="vector", limit=1)
    assert hits[0][0]["id"] == 11
    assert len(client.query(loaded, filter='color == "red"', output_fields=["id"])) == ROWS // 2
    client.delete(loaded, ids=wanted)
    client.refresh_load(loaded)
    assert count_of(client, loaded) == ROWS - len(wanted)


def test_the_old_helpers_take_numpy_files(client, loaded, folder):
    path, key = folder.path, folder.key
    rows = made_rows(500)
    np.save(path / "id.npy", np.arange(500))
    np.save(path / "vector.npy", np.array([row["vector"] for row in rows], np.float32))
    np.save(path / "title.npy", np.array([row["title"] for row in rows]))
    np.save(path / "size.npy", np.arange(500, dtype=np.int16))
    np.save(path / "facts.npy", np.array([json.dumps(row["facts"]) for row in rows]))
    np.save(path / "flags.npy", np.array([row["flags"] for row in rows], np.uint8))
    client.drop_collection(loaded)
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("title", DataType.VARCHAR, max_length=64)
    schema.add_field("size", DataType.INT16)
    schema.add_field("facts", DataType.JSON)
    schema.add_field("flags", DataType.BINARY_VECTOR, dim=16)
    client.create_collection(loaded, schema=schema)
    folder.upload()
    connections.connect("imports", uri=URI)
    try:
        files = [f"{key}/{file.name}" for file in sorted(path.iterdir())]
        task = utility.do_bulk_insert(loaded, files, using="imports")
        deadline = time.monotonic() + TIMEOUT_S
        while (state := utility.get_bulk_insert_state(task, using="imports")).state_name not in (
            "Completed",
            "Failed",
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert state.state_name == "Completed", state.failed_reason
        assert state.row_count == 500
        listed = utility.list_bulk_insert_tasks(collection_name=loaded, using="imports")
        assert [each.task_id for each in listed] == [task]
    finally:
        connections.disconnect("imports")
    assert client.get_collection_stats(loaded)["row_count"] == 500


def test_one_wrong_row_fails_the_whole_import(client, loaded, schema, folder):
    path, key = folder.path, folder.key
    rows = made_rows(200)
    (good,) = written(folder, schema, rows, BulkFileType.PARQUET)
    rows[120]["size"] = 40_000
    (path / "bad.json").write_text(json.dumps({"rows": rows}))
    folder.upload()
    told = finished(imported(loaded, [good, [f"{key}/bad.json"]]))
    assert told["state"] == "Failed"
    assert all(part in told["reason"] for part in ("bad.json", "row 120", "40000")), told["reason"]
    assert count_of(client, loaded) == 0


def test_what_can_not_be_imported_is_refused_at_once(client, loaded):
    for files, reason in (
        ([["a.txt"]], "unexpected file type"),
        ([["../../etc/passwd.json"]], "no path below the root"),
        ([["a.json"]] * 1_025, "should not exceed 1024, but got 1025"),
    ):
        with pytest.raises(MilvusException, match=reason):
            bulk_import(URI, loaded, files=files)
    with pytest.raises(MilvusException, match="can't find collection"):
        bulk_import(URI, "nobody_knows_it", files=[["a.json"]])
    with pytest.raises(MilvusException, match="import job does not exist"):
        get_import_progress(URI, job_id="1", api_key="")
    told = finished(imported(loaded, [["nowhere/a.json"]]))
    assert "nowhere/a.json does not exist" in told["reason"]


def test_keys_and_partitions_are_chosen_as_for_inserts(client, name, folder):
    path, key = folder.path, folder.key
    schema = MilvusClient.create_schema(auto_id=True)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=32)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("tenant", DataType.INT64, is_partition_key=True)
    schema.add_field("grade", DataType.INT64, default_value=5)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(
        name, schema=schema, index_params=index, num_partitions=4, consistency_level="Strong"
    )
    vectors = np.random.default_rng(1).random((1_000, 4), np.float32)
    tenants = np.arange(1_000) % 10
    table = pa.table({"vector": list(vectors), "tenant": tenants})
    pq.write_table(table, path / "rows.parquet")
    folder.upload()
    told = finished(imported(name, [[f"{key}/rows.parquet"]], partition_name=""))
    assert told["state"] == "Completed", told
    found = client.query(name, filter="tenant == 3", output_fields=["id", "grade"])
    assert len({row["id"] for row in found}) == 100
    assert {row["grade"] for row in found} == {5}
    with pytest.raises(MilvusException, match="partition key mode"):
        imported(name, [[f"{key}/rows.parquet"]], partition_name="_default_0")
