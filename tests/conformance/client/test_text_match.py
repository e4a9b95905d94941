"""Filters by words: text_match and phrase_match, on growing and sealed rows."""

import pytest
from pymilvus import DataType, MilvusClient, MilvusException

TEXTS = [
    "The quick brown fox jumps over the lazy dog",
    "A brown dog and a quick cat",
    "Foxes are quick",
    "red apple pie",
    "",
]


@pytest.fixture(params=["growing", "sealed"])
def texts(client: MilvusClient, name: str, request):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    for field, analyzer in (("plain", {}), ("english", {"type": "english"})):
        schema.add_field(
            field,
            DataType.VARCHAR,
            max_length=1_000,
            nullable=True,
            enable_analyzer=True,
            enable_match=True,
            analyzer_params=analyzer,
        )
    schema.add_field("other", DataType.VARCHAR, max_length=100)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    rows = [
        {"id": n, "vector": [n, 0, 0, 0], "plain": text, "english": text, "other": "fox"}
        for n, text in enumerate(TEXTS)
    ]
    rows.append({"id": 5, "vector": [5, 0, 0, 0], "plain": None, "english": None, "other": "x"})
    client.insert(name, rows)
    if request.param == "sealed":
        client.flush(name)
    return name


MATCHES = [
    ('text_match(plain, "fox")', [0]),
    ('text_match(english, "foxes")', [0, 2]),
    ('text_match(plain, "FOX apple")', [0, 3]),
    ('TEXT_MATCH(plain, "quick dog", minimum_should_match=2)', [0, 1]),
    ('text_match(plain, "quick") and id > 0', [1, 2]),
    ('not text_match(plain, "quick")', [3, 4]),
    ('text_match(plain, "")', []),
    ('text_match_fuzzy(plain, "qiuck", max_edit_distance=1)', [0, 1, 2]),
    ('text_match_fuzzy(plain, "fax", max_edit_distance=0)', []),
    (r'plain =~ "qu[a-z]+\b"', [0, 1, 2]),
    ('plain !~ "^(The|A)"', [2, 3, 4]),
    ('phrase_match(plain, "brown fox")', [0]),
    ('phrase_match(plain, "fox brown")', []),
    ('phrase_match(plain, "fox brown", 2)', [0]),
    ('phrase_match(plain, "quick fox", 1)', [0]),
    ('phrase_match(english, "jumps over the lazy dogs")', [0]),
]


def test_rows_that_match(client: MilvusClient, texts: str):
    for expression, found in MATCHES:
        rows = client.query(texts, expression, ["id"])
        assert (expression, [row["id"] for row in rows]) == (expression, found)
        hits = client.search(texts, [[0, 0, 0, 0]], limit=10, filter=expression)[0]
        assert (expression, sorted(hit["id"] for hit in hits)) == (expression, found)


def test_a_field_without_match_says_so(client: MilvusClient, texts: str):
    with pytest.raises(MilvusException, match="does not enable match"):
        client.query(texts, 'text_match(other, "fox")')
