"""Filters, ranges, pages, iterators, hybrid search: against NumPy's answers."""

import numpy as np
import pytest
from pymilvus import AnnSearchRequest, DataType, MilvusClient, RRFRanker, WeightedRanker

from conftest import DIM


def squared(rows, query):
    vectors = np.array([row["vector"] for row in rows], dtype=np.float32)
    return ((vectors - np.array(query, dtype=np.float32)) ** 2).sum(axis=1)


def test_filtered_search_is_exact_on_a_small_collection(client, plain, rows):
    query = rows[3]["vector"]
    hits = client.search(
        plain, [query], filter='color == "red" and n < 50', limit=5, output_fields=["n", "color"]
    )[0]
    distance = squared(rows, query)
    allowed = [row["id"] for row in rows if row["color"] == "red" and row["n"] < 50]
    assert [hit["id"] for hit in hits] == sorted(allowed, key=lambda i: distance[i])[:5]
    assert [hit["distance"] for hit in hits] == pytest.approx(
        [distance[hit["id"]] for hit in hits], rel=1e-4, abs=1e-4
    )
    assert all(hit["entity"] == {"n": hit["id"], "color": "red"} for hit in hits)


def test_range_search_keeps_the_bounds(client, plain, rows):
    query = rows[0]["vector"]
    distance = squared(rows, query)
    low, high = np.percentile(distance, [10, 30])
    hits = client.search(
        plain,
        [query],
        limit=200,
        search_params={"params": {"radius": float(high), "range_filter": float(low)}},
    )[0]
    assert {hit["id"] for hit in hits} == set(
        np.flatnonzero((distance >= low) & (distance < high)).tolist()
    )


def test_offset_pages_are_slices_of_one_ranking(client, plain, rows):
    query = rows[9]["vector"]
    whole = client.search(plain, [query], limit=20)[0]
    page = client.search(plain, [query], limit=5, search_params={"offset": 10})[0]
    assert [hit["id"] for hit in page] == [hit["id"] for hit in whole][10:15]


def test_query_pages_and_templates(client, plain):
    page = client.query(plain, filter="n >= 50", limit=10, offset=5, output_fields=["n"])
    assert [row["id"] for row in page] == list(range(55, 65))
    found = client.query(
        plain,
        filter="id in {keys} and color == {color}",
        filter_params={"keys": [1, 2, 3, 4], "color": "red"},
    )
    assert [row["id"] for row in found] == [1, 3]


def test_query_iterator_gives_every_row_once(client, plain):
    iterator = client.query_iterator(
        plain, batch_size=33, filter='color == "blue"', output_fields=["n"]
    )
    seen = []
    while batch := iterator.next():
        seen += [row["id"] for row in batch]
    iterator.close()
    assert seen == list(range(0, 200, 2))


def test_search_iterator_goes_outwards(client, plain, rows):
    query = rows[42]["vector"]
    iterator = client.search_iterator(plain, [query], batch_size=30, limit=100)
    seen = []
    while batch := iterator.next():
        seen += [(hit["distance"], hit["id"]) for hit in batch]
    iterator.close()
    distance = squared(rows, query)
    assert [key for _, key in seen] == np.argsort(distance, kind="stable")[:100].tolist()


@pytest.fixture
def two_vectors(client, name):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("a", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("b", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("a", index_type="FLAT", metric_type="COSINE")
    index.add_index("b", index_type="FLAT", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    vectors = np.random.default_rng(1).normal(size=(2, 100, DIM)).astype(np.float32)
    client.insert(
        name,
        [{"id": i, "a": vectors[0, i].tolist(), "b": vectors[1, i].tolist()} for i in range(100)],
    )
    return name, vectors


def ranking(scores, limit):
    return np.argsort(-scores, kind="stable")[:limit]


def test_hybrid_search_fuses_by_reciprocal_rank(client, two_vectors):
    name, vectors = two_vectors
    query = vectors[0, 7]
    requests = [
        AnnSearchRequest([query.tolist()], "a", {"metric_type": "COSINE"}, limit=20),
        AnnSearchRequest([query.tolist()], "b", {"metric_type": "IP"}, limit=20),
    ]
    hits = client.hybrid_search(name, requests, RRFRanker(60), limit=10, output_fields=["a"])[0]
    cosine = vectors[0] @ query / np.linalg.norm(vectors[0], axis=1) / np.linalg.norm(query)
    fused = dict.fromkeys(range(100), 0.0)
    for scores in (cosine, vectors[1] @ query):
        for rank, key in enumerate(ranking(scores, 20), start=1):
            fused[key] += 1 / (60 + rank)
    expected = sorted(fused, key=lambda key: (-np.float32(fused[key]), key))[:10]
    assert [hit["id"] for hit in hits] == expected
    assert hits[0]["distance"] == pytest.approx(fused[expected[0]], rel=1e-5)
    assert hits[0]["entity"]["a"] == pytest.approx(vectors[0, expected[0]].tolist(), abs=1e-6)


def test_hybrid_search_fuses_by_weights(client, two_vectors):
    name, vectors = two_vectors
    query = vectors[1, 3]
    requests = [
        AnnSearchRequest([query.tolist()], "a", {"metric_type": "COSINE"}, limit=100),
        AnnSearchRequest([query.tolist()], "b", {"metric_type": "IP"}, limit=100),
    ]
    hits = client.hybrid_search(name, requests, WeightedRanker(0.3, 0.7), limit=10)[0]
    cosine = vectors[0] @ query / np.linalg.norm(vectors[0], axis=1) / np.linalg.norm(query)
    fused = 0.3 * (1 + cosine) / 2 + 0.7 * (0.5 + np.arctan(vectors[1] @ query) / np.pi)
    assert [hit["id"] for hit in hits] == ranking(fused, 10).tolist()
    assert [hit["distance"] for hit in hits] == pytest.approx(
        fused[ranking(fused, 10)].tolist(), abs=1e-4
    )
