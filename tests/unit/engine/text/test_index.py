"""text_match and phrase_match against a slow reading of every row."""

import tempfile
from itertools import product
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engine.filter.scanned import edits

from elanus.engine.index.arrays import write_arrays
from elanus.engine.text.index import build_text_index, open_text_index, write_text_index
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


similar = st.lists(st.text("abé", max_size=5), max_size=6)


@given(similar, st.text("abé", max_size=4), st.integers(0, 2))
def test_fuzzy_finds_tokens_a_few_edits_away(rows: list[str], query: str, distance: int) -> None:
    index = build_text_index(ANALYZER, pa.array(rows, pa.string()))
    expected = [bool(row) and bool(query) and edits(query, row) <= distance for row in rows]
    assert index.fuzzy(ANALYZER.tokens(query), distance).mask.tolist() == expected


@given(texts)
def test_a_stored_index_answers_the_same(rows: list[str | None]) -> None:
    index = build_text_index(ANALYZER, pa.array(rows, pa.string()))
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/index"
        write_text_index(index, path)
        opened = open_text_index(path, len(rows))
    for word in (*WORDS, "absent"):
        assert opened.match([word]).mask.tolist() == index.match([word]).mask.tolist()
    assert opened.phrase([("red", 0), ("wine", 1)], 1).mask.tolist() == (
        index.phrase([("red", 0), ("wine", 1)], 1).mask.tolist()
    )
    assert opened.size_bytes == 0 < index.size_bytes


def test_a_file_that_is_not_whole_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "segment-7"
    write_text_index(build_text_index(ANALYZER, pa.array(["red wine", "pie"])), str(path))
    with pytest.raises(CorruptData, match="segment-7 has 2 rows, the segment has 3"):
        open_text_index(str(path), 3)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptData, match="segment-7"):
        open_text_index(str(path), 2)
    write_arrays(str(path), "a scalar index", {"rows": 2}, {})
    with pytest.raises(CorruptData, match="segment-7 holds a scalar index, not a token index"):
        open_text_index(str(path), 2)


def test_a_phrase_keeps_the_gaps_of_dropped_words() -> None:
    analyzer = analyzer_of('{"type": "english"}')
    index = build_text_index(analyzer, pa.array(["the end of the world", "end world"]))
    assert index.phrase(analyzer.positioned("end of the world")).mask.tolist() == [True, False]
