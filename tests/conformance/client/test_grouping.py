"""Grouping search, alone and in a hybrid search, over rows that grow and rows that are flushed."""

import uuid

import numpy as np
import pytest
from pymilvus import (
    AnnSearchRequest,
    DataType,
    Function,
    FunctionType,
    MilvusClient,
    MilvusException,
    WeightedRanker,
)

from conftest import DIM, URI

ROWS = 600
GROUPS = 12


@pytest.fixture(scope="module")
def grouped():
    """Half of the rows flushed, over two shards; gives (name, vectors, group of each row)."""
    client = MilvusClient(uri=URI)
    name = f"c_{uuid.uuid4().hex[:12]}"
    schema = MilvusClient.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=8)
    schema.add_field("label", DataType.VARCHAR, max_length=20, nullable=True)
    schema.add_field("number", DataType.INT8)
    schema.add_field("flag", DataType.BOOL)
    schema.add_field("score", DataType.FLOAT)
    schema.add_field("doc", DataType.JSON)
    index = client.prepare_index_params()
    index.add_index("v", index_type="FLAT", metric_type="L2")
    index.add_index("bits", index_type="BIN_FLAT", metric_type="HAMMING")
    client.create_collection(
        name, schema=schema, index_params=index, consistency_level="Strong", num_shards=2
    )
    random = np.random.default_rng(3)
    vectors = random.normal(size=(ROWS, DIM)).astype(np.float32)
    groups = random.integers(0, GROUPS, ROWS)
    rows = [
        {
            "id": row,
            "v": vectors[row].tolist(),
            "bits": b"\x01",
            "label": None if group == 0 else f"g{group}",
            "number": int(group),
            "flag": bool(group % 2),
            "score": 0.5,
            "doc": {"a": {"g": int(group)}},
            "extra": f"x{group}",
        }
        for row, group in enumerate(groups)
    ]
    client.insert(name, rows[: ROWS // 2])
    client.flush(name)
    client.insert(name, rows[ROWS // 2 :])
    yield name, vectors, groups
    client.drop_collection(name)
    client.close()


def best_groups(vectors, groups, query, limit, size):
    distances = ((vectors - query) ** 2).sum(axis=1)
    found = {}
    for row in np.lexsort((np.arange(len(distances)), distances)).tolist():
        group = groups[row]
        if group in found or len(found) < limit:
            found.setdefault(group, []).append(row)
    return [row for rows in found.values() for row in rows[:size]]


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("label", {}),
        ("number", {}),
        ('doc["a"]["g"]', {"json_type": DataType.INT8, "strict_cast": True}),
        ("doc", {"json_path": "doc['a']['g']"}),
        ("extra", {}),
    ],
)
def test_groups_of_every_kind_are_those_of_brute_force(client, grouped, field, options):
    name, vectors, groups = grouped
    query = np.full(DIM, 0.1, np.float32)
    for size in (1, 4):
        hits = client.search(
            name,
            [query.tolist()],
            anns_field="v",
            limit=5,
            group_by_field=field,
            group_size=size,
            strict_group_size=True,
            output_fields=["number"],
            **options,
        )[0]
        assert [hit["id"] for hit in hits] == best_groups(vectors, groups, query, 5, size)
        assert [hit["entity"]["number"] for hit in hits] == [groups[hit["id"]] for hit in hits]


def test_pages_count_groups(client, grouped):
    name, vectors, groups = grouped
    query = vectors[7]
    expected = best_groups(vectors, groups, query, 9, 3)
    found = []
    for offset in (0, 3, 6):
        hits = client.search(
            name,
            [query.tolist()],
            anns_field="v",
            limit=3,
            offset=offset,
            group_by_field="label",
            group_size=3,
            strict_group_size=True,
        )[0]
        found += [hit["id"] for hit in hits]
    assert found == expected


def test_groups_of_a_bool_are_two(client, grouped):
    name, vectors, groups = grouped
    hits = client.search(
        name, [vectors[0].tolist()], anns_field="v", limit=10, group_by_field="flag"
    )[0]
    expected = best_groups(vectors, groups % 2, vectors[0], 10, 1)
    assert [hit["id"] for hit in hits] == expected
    assert len(hits) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by_field": "score"}, "unsupported data type FLOAT for group by operator"),
        ({"group_by_field": "number", "group_size": 11}, "exceeds configured max group size:10"),
        ({"group_by_field": "number", "group_size": 0}, "input group size:0 is negative"),
        (
            {"group_by_field": "number", "search_params": {"params": {"radius": 1.0}}},
            "Not allowed to do range-search when doing search-group-by",
        ),
    ],
)
def test_what_can_not_be_grouped(client, grouped, options, message):
    name, vectors, _ = grouped
    with pytest.raises(MilvusException, match=message):
        client.search(name, [vectors[0].tolist()], anns_field="v", limit=3, **options)


def test_neither_iterators_nor_binary_vectors_group(client, grouped):
    name, vectors, _ = grouped
    with pytest.raises(MilvusException, match="Not allowed to do groupBy when doing iteration"):
        client.search_iterator(
            name, [vectors[0].tolist()], anns_field="v", batch_size=5, group_by_field="number"
        )
    with pytest.raises(MilvusException, match="not support search_group_by operation based on bi"):
        client.search(name, [b"\x01"], anns_field="bits", limit=3, group_by_field="number")


@pytest.mark.parametrize("scorer", ["max", "sum", "avg"])
def test_hybrid_search_gives_groups_by_their_score(client, grouped, scorer):
    name, vectors, groups = grouped
    requests = [
        AnnSearchRequest([vectors[row].tolist()], "v", {"metric_type": "L2"}, limit=8)
        for row in (3, 4)
    ]
    hits = client.hybrid_search(
        name,
        requests,
        WeightedRanker(0.4, 0.6),
        limit=4,
        group_by_field="label",
        group_size=3,
        strict_group_size=True,
        rank_group_scorer=scorer,
        output_fields=["number"],
    )[0]
    by_group = {}
    for hit in hits:
        assert hit["entity"]["number"] == groups[hit["id"]]
        by_group.setdefault(int(groups[hit["id"]]), []).append(hit["distance"])
    assert len(by_group) == 4
    assert sum(map(len, by_group.values())) == len(hits)
    how = {"max": max, "sum": sum, "avg": np.mean}[scorer]
    scores = [how(each) for each in by_group.values()]
    assert scores == sorted(scores, reverse=True)


def test_rows_are_searched_by_their_keys(client, grouped):
    name, vectors, groups = grouped
    try:
        hits = client.search(
            name, ids=[5, 6], anns_field="v", limit=4, group_by_field="label", group_size=2,
            strict_group_size=True,
        )  # fmt: skip
    except TypeError:
        pytest.skip("this client has no search by primary keys")
    assert [[hit["id"] for hit in each] for each in hits] == [
        best_groups(vectors, groups, vectors[row], 4, 2) for row in (5, 6)
    ]


def test_texts_are_grouped_by_their_best_document(client, name):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=100, enable_analyzer=True)
    schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_field("page", DataType.INT32)
    schema.add_function(
        Function(
            name="bm25",
            function_type=FunctionType.BM25,
            input_field_names=["text"],
            output_field_names=["terms"],
        )
    )
    index = client.prepare_index_params()
    index.add_index("terms", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    client.insert(
        name,
        [
            {"id": row, "text": "stone " * (1 + row % 4) + "wall " * 3, "page": row % 3}
            for row in range(24)
        ],
    )
    plain = client.search(name, ["stone"], anns_field="terms", limit=24, output_fields=["page"])[0]
    found = client.search(
        name,
        ["stone", "nothing"],
        anns_field="terms",
        limit=2,
        group_by_field="page",
        group_size=3,
        strict_group_size=True,
    )
    pages = {}
    for hit in plain:
        pages.setdefault(hit["entity"]["page"], []).append(hit["id"])
    expected = [key for keys in list(pages.values())[:2] for key in keys[:3]]
    assert [[hit["id"] for hit in hits] for hits in found] == [expected, []]
