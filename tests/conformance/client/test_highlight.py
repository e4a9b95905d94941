"""Words of a full-text search, marked in its hits."""

import pytest
from pymilvus import (
    DataType,
    Function,
    FunctionType,
    LexicalHighlighter,
    MilvusClient,
    MilvusException,
    SemanticHighlighter,
)

TEXTS = [
    "The quick brown foxes jumped over the lazy dog",
    "A dog and a fox",
    "red apple pie",
]


@pytest.fixture
def texts(client: MilvusClient, name: str):
    """The first row is sealed, the others are growing."""
    several = {
        "by_field": "language",
        "analyzers": {"default": {}, "en": {"type": "english"}},
    }
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("language", DataType.VARCHAR, max_length=10)
    for field, options in (
        ("text", {"analyzer_params": {"type": "english"}}),
        ("mixed", {"multi_analyzer_params": several}),
    ):
        schema.add_field(field, DataType.VARCHAR, max_length=1_000, enable_analyzer=True, **options)
        schema.add_field(f"{field}_terms", DataType.SPARSE_FLOAT_VECTOR)
        function = Function(
            name=field,
            function_type=FunctionType.BM25,
            input_field_names=[field],
            output_field_names=[f"{field}_terms"],
        )
        schema.add_function(function)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    indexes = client.prepare_index_params()
    for field in ("text_terms", "mixed_terms"):
        indexes.add_index(field, index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    indexes.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes, consistency_level="Strong")
    languages = ["en", "", "en"]
    rows = [
        {"id": n, "language": language, "text": text, "mixed": text, "vector": [n, 0, 0, 0]}
        for n, (text, language) in enumerate(zip(TEXTS, languages, strict=True))
    ]
    client.insert(name, rows[:1])
    client.flush(name)
    client.insert(name, rows[1:])
    return name


def fragments(hits, field: str) -> dict[int, list[str]]:
    return {hit["id"]: hit["highlight"][field]["fragments"] for hit in hits}


def test_words_of_the_search_are_marked(client: MilvusClient, texts: str):
    highlighter = LexicalHighlighter(highlight_search_text=True, fragment_size=9)
    queries = ["fox", "apples dogs"]
    first, second = client.search(
        texts, queries, anns_field="text_terms", limit=5, highlighter=highlighter
    )
    assert fragments(first, "text") == {
        0: ["<em>foxes</em> jum"],
        1: ["<em>fox</em>"],
    }
    assert fragments(second, "text") == {
        0: ["<em>dog</em>"],
        1: ["<em>dog</em> and a"],
        2: ["<em>apple</em> pie"],
    }
    assert "text" not in first[0]["entity"]


def test_words_of_other_queries_are_marked_too(client: MilvusClient, texts: str):
    highlighter = LexicalHighlighter(
        highlight_search_text=True,
        highlight_query=[{"type": "TextMatch", "field": "text", "text": "jumping"}],
        pre_tags=["<1>", "<2>"],
        post_tags=["</>"],
        fragment_offset=6,
        num_of_fragments=1,
    )
    (hits,) = client.search(
        texts,
        ["fox"],
        anns_field="text_terms",
        limit=1,
        offset=1,
        output_fields=["text"],
        highlighter=highlighter,
    )
    shorter, longer = "and a <1>fox</>", "brown <1>foxes</> <2>jumped</> over the lazy dog"
    assert hits[0]["highlight"]["text"]["fragments"] in ([shorter], [longer])
    assert hits[0]["entity"]["text"] in TEXTS


def test_each_row_is_read_by_its_own_analyzer(client: MilvusClient, texts: str):
    (hits,) = client.search(
        texts,
        ["dogs"],
        anns_field="mixed_terms",
        search_params={"analyzer_name": "en"},
        limit=5,
        highlighter=LexicalHighlighter(highlight_search_text=True, fragment_size=5),
    )
    assert fragments(hits, "mixed") == {0: ["<em>dog</em>"], 1: ["<em>dog</em> a"]}


def test_a_search_by_vectors_has_words_of_its_own(client: MilvusClient, texts: str):
    query = [{"type": "TextMatch", "field": "text", "text": "pies"}]
    (hits,) = client.search(
        texts,
        [[2, 0, 0, 0]],
        anns_field="vector",
        limit=2,
        highlighter=LexicalHighlighter(highlight_query=query),
    )
    assert fragments(hits, "text") == {2: ["<em>pie</em>"], 1: []}


WRONG = [
    (LexicalHighlighter(highlight_search_text=True), 'only support with metric type "BM25"'),
    (LexicalHighlighter(pre_tags=[]), "pre_tags cannot be empty list"),
    (LexicalHighlighter(post_tags=[]), "post_tags cannot be empty list"),
    (LexicalHighlighter(fragment_size=0), "invalid fragment_size: 0"),
    (LexicalHighlighter(num_of_fragments=-1), "invalid num_of_fragments: -1"),
    (
        LexicalHighlighter(highlight_query=[{"type": "TextMatch", "text": "x"}]),
        "must set `field` in query",
    ),
    (
        LexicalHighlighter(highlight_query=[{"type": "No", "field": "text", "text": "x"}]),
        "invalid highlight query type: No",
    ),
    (
        LexicalHighlighter(highlight_query=[{"type": "TextMatch", "field": "nope", "text": "x"}]),
        "highlight field not found in schema: nope",
    ),
    (
        LexicalHighlighter(
            highlight_query=[{"type": "TextMatch", "field": "language", "text": "x"}]
        ),
        "must have enable_analyzer",
    ),
    (
        SemanticHighlighter(queries=["x"], input_fields=["text"]),
        "semantic highlighter is not supported",
    ),
]


def test_wrong_highlighters_are_refused(client: MilvusClient, texts: str):
    for highlighter, message in WRONG:
        with pytest.raises(MilvusException, match=message):
            client.search(texts, [[0, 0, 0, 0]], anns_field="vector", highlighter=highlighter)
