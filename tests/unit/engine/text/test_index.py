"""text_match and phrase_match against a slow reading of every row."""

from itertools import product

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.engine.text.index import build_text_index, from_batch, to_batch
from elanus.engine.text.parameters import analyzer_of
from elanus.errors import CorruptData

WORDS = ("red", "green", "apple", "pie", "wine", "日本", "été")
texts = st.lists(
    st.none() | st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join), max_size=12
)
queries = st.lists(st.sampled_from((*WORDS, "absent")), max_size=4)
ANALYZER = analyzer_of("")


@given(texts, queries, st.integers(1, 3))
def test_match_counts_the_tokens_that_occur(
    rows: list[str | None], query: list[str], minimum: int
) -> None:
    index = build_text_index(ANALYZER, pa.array(rows, pa.string()))
    expected = [
        row is not None and sum(token in row.split() for token in query) >= minimum for row in rows
    ]
    assert index.match(query, minimum).mask.tolist() == expected


def least_displacement(row: list[str], query: list[str]) -> int | None:
    places = [[at - n for at, word in enumerate(row) if word == t] for n, t in enumerate(query)]
    return min((max(way) - min(way) for way in product(*places)), default=None)


@given(texts, queries, st.integers(0, 4))
def test_phrase_finds_tokens_in_order(rows: list[str | None], query: list[str], slop: int) -> None:
    index = build_text_index(ANALYZER, pa.array(rows, pa.string()))
    phrase = [(token, position) for position, token in enumerate(query)]
    expected = []
    for row in rows:
        least = least_displacement((row or "").split(), query) if query else None
        expected.append(least is not None and least <= slop)
    assert index.phrase(phrase, slop).mask.tolist() == expected


@given(texts)
def test_a_stored_index_answers_the_same(rows: list[str | None]) -> None:
    index = build_text_index(ANALYZER, pa.array(rows, pa.string()))
    sink = pa.BufferOutputStream()
    batch = to_batch(index)
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    opened = from_batch(pa.ipc.open_file(sink.getvalue()).get_batch(0), "a")
    for word in WORDS:
        assert opened.match([word]).mask.tolist() == index.match([word]).mask.tolist()


def test_a_file_of_something_else_is_refused_by_name() -> None:
    with pytest.raises(CorruptData, match="segment-7"):
        from_batch(pa.record_batch({"x": [1]}), "segment-7")


def test_a_phrase_keeps_the_gaps_of_dropped_words() -> None:
    analyzer = analyzer_of('{"type": "english"}')
    index = build_text_index(analyzer, pa.array(["the end of the world", "end world"]))
    assert index.phrase(analyzer.positioned("end of the world")).mask.tolist() == [True, False]
