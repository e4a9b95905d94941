"""These tests run with the environment of an unmodified client, against ELANUS_URI."""

import os
import time
import uuid

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

URI = os.environ["ELANUS_URI"]
DIM = 16
INDEX_TIMEOUT_S = 240


@pytest.fixture
def client():
    connection = MilvusClient(uri=URI)
    yield connection
    connection.close()


@pytest.fixture
def name(client):
    """The name of a collection that is dropped afterwards."""
    chosen = f"c_{uuid.uuid4().hex[:12]}"
    yield chosen
    if client.has_collection(chosen):
        client.drop_collection(chosen)


@pytest.fixture
def load_indexed(client, name):
    """``load_indexed(field, count)``: flush, wait until so many rows are indexed, load anew."""

    def load(field, count):
        client.flush(name)
        deadline = time.monotonic() + INDEX_TIMEOUT_S
        while client.describe_index(name, field)["indexed_rows"] < count:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        client.release_collection(name)
        client.load_collection(name)

    return load


@pytest.fixture
def rows():
    """200 rows of the plain collection; vectors are random but fixed."""
    vectors = np.random.default_rng(5).normal(size=(200, DIM)).astype(np.float32)
    return [
        {"id": i, "vector": vectors[i].tolist(), "color": "red" if i % 2 else "blue", "n": i}
        for i in range(200)
    ]


@pytest.fixture
def plain(client, name, rows):
    """A loaded collection with id, vector and dynamic color and n; gives its name."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="HNSW", metric_type="L2", M=16, efConstruction=100)
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    client.insert(name, rows)
    return name
