"""The client of ``benchmarks.imports``: one way of bringing rows into a new collection.

    python import_client.py PORT insert|import VECTORS.npy FILE

Prints the seconds until the rows were acknowledged, and until they were in segments. Runs with the
interpreter of a client installation.
"""

import sys
import time

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.bulk_writer import bulk_import, get_import_progress

BATCH_ROWS = 10_000
POLL_S = 0.02


def insert(client, name, vectors):
    for start in range(0, len(vectors), BATCH_ROWS):
        part = vectors[start : start + BATCH_ROWS]
        ids = np.arange(start, start + len(part))
        rows = [{"id": int(n), "vector": vector} for n, vector in zip(ids, part, strict=True)]
        client.insert(name, rows)
    acknowledged = time.monotonic()
    client.flush(name)
    return acknowledged


def import_file(url, name, file):
    answer = bulk_import(url=url, collection_name=name, files=[[file]]).json()
    job_id = answer["data"]["jobId"]
    while True:
        job = get_import_progress(url=url, job_id=job_id).json()["data"]
        if job["state"] == "Completed":
            return time.monotonic()
        if job["state"] == "Failed":
            raise RuntimeError(job)
        time.sleep(POLL_S)


def main():
    port, way, vectors, file = sys.argv[1:]
    vectors = np.load(vectors)
    url = f"http://127.0.0.1:{port}"
    client = MilvusClient(url)
    name = f"by_{way}_{time.time_ns()}"
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    client.create_collection(name, schema=schema)
    started = time.monotonic()
    done = insert(client, name, vectors) if way == "insert" else import_file(url, name, file)
    print(done - started, time.monotonic() - started)
    client.drop_collection(name)


if __name__ == "__main__":
    main()
