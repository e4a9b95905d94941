"""Fragments of a text around the words of a query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.engine.text.highlight import Marking, fragments
from elanus.engine.text.parameters import analyzer_of

ENGLISH = analyzer_of('{"type": "english"}')
FOXES = "The quick brown foxes jumped over a lazy fox"


def marked(text: str, query: str, **marking: object) -> list[str]:
    return fragments(text, ENGLISH, frozenset(ENGLISH.tokens(query)), Marking(**marking))


def test_words_are_marked_where_their_tokens_are_those_of_the_query() -> None:
    expected = "foxes</em> jumped over a lazy <em>fox</em>"
    assert marked(FOXES, "Fox") == [f"<em>{expected}"]
    assert marked(FOXES, "cat") == []
    assert marked("", "fox") == []


def test_a_fragment_begins_before_its_first_word_and_has_a_size() -> None:
    assert marked(FOXES, "fox", size=12) == ["<em>foxes</em> jumped", "<em>fox</em>"]
    assert marked(FOXES, "fox", size=12, lead=6) == ["brown <em>foxes</em> ", " lazy <em>fox</em>"]
    assert marked(FOXES, "quick", size=5, lead=100) == ["The <em>quick</em>"]


def test_a_fragment_is_stretched_for_its_last_word() -> None:
    assert marked("fox and fox", "fox", size=9) == ["<em>fox</em> and <em>fox</em>"]
    assert marked("fox and fox", "fox", size=8) == ["<em>fox</em> and <em>fox</em>"]
    assert marked("fox and fox", "fox", size=7) == ["<em>fox</em> and", "<em>fox</em>"]


@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_there_are_so_many_fragments_at_most(most: int) -> None:
    assert len(marked("fox a fox b fox", "fox", size=1, most=most)) == most


def test_marks_alternate_within_a_fragment() -> None:
    found = marked("fox fox fox", "fox", before=("<1>", "<2>"), after=("</>",))
    assert found == ["<1>fox</> <2>fox</> <1>fox</>"]


def test_words_within_each_other_are_marked_once() -> None:
    chinese = analyzer_of('{"tokenizer": "jieba"}')
    wanted = frozenset(("中国", "科学", "学院", "科学院"))
    assert fragments("中国科学院", chinese, wanted, Marking()) == ["<em>中国</em><em>科学院</em>"]


@given(
    st.lists(st.sampled_from(["fox", "été", "日本", "dog", "🦊"]), max_size=12).map(" ".join),
    st.sampled_from(["fox", "été", "日本 dog"]),
    st.integers(1, 20),
    st.integers(0, 8),
)
def test_fragments_without_their_marks_are_parts_of_the_text(
    text: str, query: str, size: int, lead: int
) -> None:
    for found in marked(text, query, size=size, lead=lead, before=("[",), after=("]",)):
        assert "[" in found
        plain = found.replace("[", "").replace("]", "")
        assert plain in text
        assert len(plain) >= size or text.endswith(plain)
