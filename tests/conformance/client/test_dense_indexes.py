"""Every index type of a float vector: made, described and searched, with its parameters' errors."""

import time

import numpy as np
import pytest
from pymilvus import DataType, MilvusException

DIM, ROWS = 16, 1_200
TYPES = {
    "FLAT": ({}, {}),
    "IVF_FLAT": ({"nlist": 16}, {"nprobe": 16}),
    "IVF_SQ8": ({"nlist": 16}, {"nprobe": 16}),
    "IVF_PQ": ({"nlist": 16, "m": 8, "refine": True}, {"nprobe": 16, "refine_k": 8}),
    "IVF_RABITQ": (
        {"nlist": 16, "refine": True, "refine_type": "SQ8"},
        {"nprobe": 16, "rbq_bits_query": 8, "refine_k": 8},
    ),
    "HNSW": ({"M": 16, "efConstruction": 100}, {"ef": 100}),
    "HNSW_SQ": ({"M": 16, "efConstruction": 100, "sq_type": "SQ6"}, {"ef": 100}),
    "HNSW_PQ": (
        {"M": 16, "efConstruction": 100, "m": 8, "refine": True, "refine_type": "FP32"},
        {"ef": 100, "refine_k": 8},
    ),
    "SCANN": ({"nlist": 16, "with_raw_data": True}, {"nprobe": 16, "reorder_k": 100}),
    "DISKANN": ({}, {"search_list": 100}),
    "AUTOINDEX": ({}, {}),
}
WRONG_SEARCHES = {
    "HNSW": ({"ef": 5}, "ef(5) should be larger than k(10)"),
    "SCANN": ({"reorder_k": 5}, "reorder_k(5) should be larger than k(10)"),
    "DISKANN": ({"search_list": 5}, "search_list_size(5) should be larger than k(10)"),
    "IVF_RABITQ": ({"rbq_bits_query": 9}, "param 'rbq_bits_query' (9) should be in range [0, 8]"),
}


@pytest.fixture
def vectors():
    return np.random.default_rng(9).normal(size=(ROWS, DIM)).astype(np.float32)


@pytest.fixture
def flushed(client, name, vectors):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    client.insert(name, [{"id": n, "vector": vector} for n, vector in enumerate(vectors)])
    client.flush(name)
    return name


def _index(client, name, index_type, params):
    index = client.prepare_index_params()
    index.add_index("vector", index_type=index_type, metric_type="L2", params=params)
    client.create_index(name, index)
    deadline = time.monotonic() + 240
    while client.describe_index(name, "vector")["pending_index_rows"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_type_finds_the_nearest(client, flushed, vectors):
    queries = vectors[:20] + 0.01
    distances = ((queries[:, None] - vectors[None]) ** 2).sum(-1)
    for index_type, (params, asked) in TYPES.items():
        _index(client, flushed, index_type, params)
        described = client.describe_index(flushed, "vector")
        assert described["index_type"] == index_type
        assert described["metric_type"] == "L2"
        for key, value in params.items():
            assert described[key] == str(value)
        client.load_collection(flushed)
        for filter, kept in (("", np.ones(ROWS, bool)), ("id % 2 == 0", np.arange(ROWS) % 2 == 0)):
            wanted = [row[kept[row]][:10] for row in np.argsort(distances, axis=1)]
            found = client.search(
                flushed, queries.tolist(), filter, limit=10, search_params={"params": asked}
            )
            common = [
                len({*own} & {hit["id"] for hit in hits})
                for own, hits in zip(wanted, found, strict=True)
            ]
            assert sum(common) >= 160, (index_type, filter)
            assert (
                sum(hits[0]["id"] == own[0] for own, hits in zip(wanted, found, strict=True)) >= 19
            )
            for query, hits in enumerate(found):
                for hit in hits:
                    assert hit["distance"] == pytest.approx(distances[query, hit["id"]], rel=1e-4)
        if index_type in WRONG_SEARCHES:
            wrong, text = WRONG_SEARCHES[index_type]
            with pytest.raises(MilvusException) as caught:
                client.search(
                    flushed, queries[:1].tolist(), limit=10, search_params={"params": wrong}
                )
            assert text in str(caught.value)
        client.release_collection(flushed)
        client.drop_index(flushed, "vector")


@pytest.mark.parametrize(
    ("index_type", "params", "text"),
    [
        ("IVF_PQ", {"m": 7}, "should be a multiple of the number of subquantizers (m)"),
        ("IVF_PQ", {}, "param 'm' not exist in json"),
        ("SCANN", {"nlist": 0}, "param 'nlist' (0) should be in range [1, 65536]"),
        ("HNSW", {"M": 1}, "param 'M' (1) should be in range [2, 2048]"),
        ("HNSW_PRQ", {"nrq": 17}, "param 'nrq' (17) should be in range [1, 16]"),
        ("HNSW_SQ", {"sq_type": "sq4"}, "invalid scalar quantizer type"),
        ("IVF_RABITQ", {"refine_type": "PQ"}, "invalid refine type : PQ, optional types are"),
    ],
)
def test_parameters_out_of_range_are_refused(client, flushed, index_type, params, text):
    index = client.prepare_index_params()
    index.add_index("vector", index_type=index_type, metric_type="L2", params=params)
    with pytest.raises(MilvusException) as caught:
        client.create_index(flushed, index)
    assert caught.value.code == 1100
    assert text in str(caught.value)
