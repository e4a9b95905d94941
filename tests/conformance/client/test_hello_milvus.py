"""The hello_milvus flow of the object-relational interface."""

import numpy as np
import pytest
from pymilvus import (
    Collection,
    CollectionSchema,
    DataType,
    FieldSchema,
    connections,
    utility,
)

from conftest import URI


@pytest.fixture
def connection():
    connections.connect("default", uri=URI)
    yield
    connections.disconnect("default")


def test_hello_milvus(connection, name):
    fields = [
        FieldSchema("pk", DataType.VARCHAR, is_primary=True, auto_id=False, max_length=100),
        FieldSchema("random", DataType.DOUBLE),
        FieldSchema("embeddings", DataType.FLOAT_VECTOR, dim=8),
    ]
    hello = Collection(name, CollectionSchema(fields, "hello"), consistency_level="Strong")
    assert utility.has_collection(name)

    rng = np.random.default_rng(seed=19530)
    keys = [str(i) for i in range(3_000)]
    random = rng.random(3_000)
    vectors = rng.random((3_000, 8), np.float32)
    inserted = hello.insert([keys, random, vectors])
    assert inserted.insert_count == 3_000
    hello.flush()
    assert hello.num_entities == 3_000

    hello.create_index(
        "embeddings", {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 128}}
    )
    hello.load()
    assert utility.loading_progress(name)["loading_progress"] == "100%"

    query = vectors[-2:]
    parameters = {"metric_type": "L2", "params": {"nprobe": 128}}
    exact = ((vectors[None] - query[:, None]) ** 2).sum(axis=2)
    result = hello.search(query, "embeddings", parameters, limit=3, output_fields=["random"])
    for number, hits in enumerate(result):
        nearest = np.argsort(exact[number], kind="stable")[:3]
        assert list(hits.ids) == [keys[i] for i in nearest]
        assert list(hits.distances) == pytest.approx(exact[number][nearest].tolist(), abs=1e-4)
        assert hits[0].entity.get("random") == pytest.approx(random[nearest[0]])

    rows = hello.query("random > 0.5", output_fields=["random", "embeddings"])
    assert len(rows) == int((random > 0.5).sum())
    assert all(row["random"] > 0.5 for row in rows)
    page = hello.query("random > 0.5", limit=4, offset=2, output_fields=["random"])
    assert [row["pk"] for row in page] == sorted(
        key for key, value in zip(keys, random, strict=True) if value > 0.5
    )[2:6]

    result = hello.search(query, "embeddings", parameters, limit=3, expr="random > 0.5")
    for number, hits in enumerate(result):
        allowed = np.where(random > 0.5, exact[number], np.inf)
        assert list(hits.ids) == [keys[i] for i in np.argsort(allowed, kind="stable")[:3]]

    hello.delete(f'pk in ["{keys[0]}", "{keys[1]}"]')
    assert hello.query('pk in ["0", "1"]') == []
    hello.upsert([["5"], [0.25], [vectors[9]]])
    assert hello.query('pk == "5"', output_fields=["random"])[0]["random"] == 0.25
    hello.release()
    hello.drop_index()
    utility.drop_collection(name)
    assert not utility.has_collection(name)
