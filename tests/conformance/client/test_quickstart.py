"""The MilvusClient quick start, step by step, with the answers that Milvus gives."""

import numpy as np
import pytest
from pymilvus import MilvusClient

from conftest import DIM, URI


def test_quick_start(client, name):
    client.create_collection(name, dimension=5)
    data = [
        {"id": 0, "vector": [0.358, -0.602, 0.184, -0.263, 0.903], "color": "pink_8682"},
        {"id": 1, "vector": [0.199, 0.060, 0.698, 0.261, 0.839], "color": "red_7025"},
        {"id": 2, "vector": [0.437, -0.560, 0.646, 0.789, 0.208], "color": "orange_6781"},
        {"id": 3, "vector": [0.317, 0.972, -0.370, -0.486, 0.958], "color": "pink_9298"},
        {"id": 4, "vector": [0.445, -0.876, 0.822, 0.464, 0.302], "color": "red_4794"},
    ]
    answer = client.insert(name, data)
    assert answer["insert_count"] == 5
    assert list(answer["ids"]) == [0, 1, 2, 3, 4]

    hits = client.search(
        name, [data[2]["vector"]], limit=3, output_fields=["color"], consistency_level="Strong"
    )
    assert [hit["id"] for hit in hits[0]] == [2, 4, 1]
    assert hits[0][0]["distance"] == pytest.approx(1.0, abs=1e-5)
    assert hits[0][0]["entity"]["color"] == "orange_6781"
    vectors = np.array([row["vector"] for row in data])
    expected = vectors[4] @ vectors[2] / np.linalg.norm(vectors[4]) / np.linalg.norm(vectors[2])
    assert hits[0][1]["distance"] == pytest.approx(expected, abs=1e-5)

    filtered = client.search(
        name,
        [data[0]["vector"]],
        filter='color like "red%"',
        limit=5,
        consistency_level="Strong",
    )
    assert sorted(hit["id"] for hit in filtered[0]) == [1, 4]

    rows = client.query(name, filter="id < 2", output_fields=["*"], consistency_level="Strong")
    assert [row["id"] for row in rows] == [0, 1]
    assert rows[0]["color"] == "pink_8682"
    assert rows[0]["vector"] == pytest.approx(data[0]["vector"], abs=1e-6)

    assert [row["id"] for row in client.get(name, ids=[3, 1, 77])] == [1, 3]
    client.upsert(name, [{"id": 1, "vector": data[0]["vector"], "color": "black_1"}])
    assert client.get(name, ids=[1], consistency_level="Strong")[0]["color"] == "black_1"
    assert client.delete(name, ids=[0, 4])["delete_count"] == 2
    left = client.query(name, filter="id >= 0", consistency_level="Strong")
    assert [row["id"] for row in left] == [1, 2, 3]
    assert client.delete(name, filter='color == "pink_9298"')["delete_count"] == 1
    count = client.query(name, output_fields=["count(*)"], consistency_level="Strong")
    assert count[0]["count(*)"] == 2

    description = client.describe_collection(name)
    assert [field["name"] for field in description["fields"]] == ["id", "vector"]
    assert description["enable_dynamic_field"] is True
    client.drop_collection(name)
    assert not client.has_collection(name)


def test_another_connection_sees_the_collection(client, plain):
    other = MilvusClient(uri=URI)
    assert plain in other.list_collections()
    count = other.query(plain, output_fields=["count(*)"], consistency_level="Strong")
    assert count[0]["count(*)"] == 200
    other.close()


def test_server_names_a_version_that_clients_can_parse(client):
    numbers = client.get_server_version().removeprefix("v").split("-")[0].split(".")
    assert len(numbers) == 3
    assert all(number.isdigit() for number in numbers)


def test_flush_makes_the_rows_count_in_the_statistics(client, plain):
    client.flush(plain)
    assert client.get_collection_stats(plain)["row_count"] == 200


def test_search_of_many_vectors_gives_one_list_each(client, plain, rows):
    hits = client.search(plain, [row["vector"] for row in rows[:7]], limit=4)
    assert len(hits) == 7
    assert [answer[0]["id"] for answer in hits] == list(range(7))
    assert all(len(answer) == 4 for answer in hits)
    assert len(rows[0]["vector"]) == DIM
