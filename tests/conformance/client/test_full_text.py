"""Full-text search: a BM25 function from a text to a sparse field, on growing and sealed rows."""

import math
import random

import pytest
from pymilvus import (
    AnnSearchRequest,
    DataType,
    Function,
    FunctionType,
    MilvusClient,
    MilvusException,
    RRFRanker,
)

WORDS = ["red", "green", "blue", "apple", "pie", "wine", "cake", "river", "stone", "cloud"]
K1, B = 1.2, 0.75


def bm25(name: str = "bm25", source: str = "text", target: str = "terms") -> Function:
    return Function(
        name=name,
        function_type=FunctionType.BM25,
        input_field_names=[source],
        output_field_names=[target],
    )


def text_schema(client: MilvusClient, **options):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=2_000, **options)
    schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    return schema


def documents(count: int) -> list[str]:
    generator = random.Random(7)
    texts = [
        " ".join(generator.choices(WORDS, weights=range(1, 11), k=generator.randint(1, 12)))
        for _ in range(count)
    ]
    return [*texts, "", "quartz"]


@pytest.fixture(params=["growing", "sealed", "indexed"])
def texts(client: MilvusClient, name: str, request):
    schema = text_schema(client, enable_analyzer=True)
    schema.add_function(bm25())
    indexes = client.prepare_index_params()
    indexes.add_index("terms", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    indexes.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong")
    found = documents(1_500 if request.param == "indexed" else 40)
    client.insert(
        name,
        [{"id": n, "text": text, "vector": [n, 0, 0, 0]} for n, text in enumerate(found)],
    )
    if request.param != "growing":
        client.flush(name)
    return found


def expected_scores(texts: list[str], query: str) -> dict[int, float]:
    split = [text.split() for text in texts]
    average = sum(map(len, split)) / len(split)
    scores: dict[int, float] = {}
    for term in query.lower().split():
        rows_with = sum(term in words for words in split)
        idf = math.log(1 + (len(split) - rows_with + 0.5) / (rows_with + 0.5))
        for row, words in enumerate(split):
            count = words.count(term)
            if count:
                norm = K1 * (1 - B + B * len(words) / average)
                gain = idf * count * (K1 + 1) / (count + norm)
                scores[row] = scores.get(row, 0.0) + gain
    return scores


@pytest.mark.parametrize("query", ["red", "Apple pie", "quartz cloud", "river river", "absent", ""])
def test_scores_are_those_of_bm25(client: MilvusClient, name: str, texts: list[str], query: str):
    expected = expected_scores(texts, query)
    hits = client.search(name, [query], anns_field="terms", limit=20, output_fields=["text"])[0]
    best = sorted(expected.values(), reverse=True)[:20]
    assert [hit["distance"] for hit in hits] == pytest.approx(best, rel=1e-4)
    for hit in hits:
        assert hit["distance"] == pytest.approx(expected[hit["id"]], rel=1e-4)
        assert hit["entity"]["text"] == texts[hit["id"]]


def test_with_a_filter_and_several_queries(client: MilvusClient, name: str, texts: list[str]):
    answers = client.search(
        name, ["red apple", "stone"], anns_field="terms", limit=10, filter="id % 2 == 0"
    )
    for query, hits in zip(["red apple", "stone"], answers, strict=True):
        expected = {row: s for row, s in expected_scores(texts, query).items() if row % 2 == 0}
        best = sorted(expected.values(), reverse=True)[:10]
        assert [hit["distance"] for hit in hits] == pytest.approx(best, rel=1e-4)


def test_beside_vectors_in_a_hybrid_search(client: MilvusClient, name: str, texts: list[str]):
    quartz = len(texts) - 1
    requests = [
        AnnSearchRequest(["quartz"], "terms", {"metric_type": "BM25"}, limit=5),
        AnnSearchRequest([[quartz, 0, 0, 0]], "vector", {"metric_type": "L2"}, limit=5),
    ]
    hits = client.hybrid_search(name, requests, RRFRanker(), limit=3)[0]
    assert hits[0]["id"] == quartz


def test_an_upsert_changes_the_terms(client: MilvusClient, name: str, texts: list[str]):
    client.upsert(name, [{"id": 0, "text": "obsidian", "vector": [0, 0, 0, 0]}])
    hits = client.search(name, ["obsidian"], anns_field="terms", limit=5)[0]
    assert [hit["id"] for hit in hits] == [0]


def test_what_a_collection_says_of_its_function(client: MilvusClient, name: str, texts: list[str]):
    described = client.describe_collection(name)
    [function] = described["functions"]
    assert (function["name"], function["input_field_names"]) == ("bm25", ["text"])
    outputs = [f["name"] for f in described["fields"] if f.get("is_function_output")]
    assert outputs == ["terms"]
    row = client.get(name, [1], output_fields=["*"])[0]
    assert set(row) == {"id", "text", "vector"}


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda c, n: c.query(n, "id == 0", ["terms"]), "not allowed to retrieve raw data"),
        (
            lambda c, n: c.search(n, [{1: 0.5}], anns_field="terms", limit=1),
            "please provide varchar/text for BM25 Function based search",
        ),
        (
            lambda c, n: c.search(
                n, ["red"], anns_field="terms", limit=1, search_params={"metric_type": "IP"}
            ),
            "must use BM25 metric type",
        ),
    ],
)
def test_wrong_reads_are_refused(client: MilvusClient, name: str, texts: list[str], act, message):
    with pytest.raises(MilvusException, match=message):
        act(client, name)


@pytest.mark.parametrize(
    ("options", "functions", "message"),
    [
        ({}, [bm25()], "must set enable_analyzer to true"),
        ({"enable_analyzer": True}, [bm25("a"), bm25("b")], "duplicate function output field"),
    ],
)
def test_wrong_functions_are_refused(client: MilvusClient, name: str, options, functions, message):
    schema = text_schema(client, **options)
    for function in functions:
        schema.add_function(function)
    with pytest.raises(MilvusException, match=message):
        client.create_collection(name, schema=schema)


def test_the_index_must_have_the_metric(client: MilvusClient, name: str):
    schema = text_schema(client, enable_analyzer=True)
    schema.add_function(bm25())
    client.create_collection(name, schema=schema)
    indexes = client.prepare_index_params()
    indexes.add_index("terms", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    with pytest.raises(MilvusException, match="must be BM25, got IP"):
        client.create_index(name, indexes)
