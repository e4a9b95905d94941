"""Whatever the text, the compiler answers quickly, with a plan or an error of the user's."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.filter.sample import COLUMNS, SCHEMA
from tests.unit.engine.filter.test_examples import ERRORS, ROWS

from elanus.engine.filter import compile_filter, evaluate
from elanus.errors import FilterError, Unimplemented

LONGEST_S = 2.0
# fmt: off
PIECES = [
    "id", "i", "f", "s", "b", "j", "a", "v", "d", "$meta", "and", "or", "not", "in", "like",
    "exists", "AND", "!", "&&", "||", "(", ")", "[", "]", "{", "}", ",", "==", "!=", "<", "<=",
    ">", ">=", "+", "-", "*", "/", "%", "**", "&", "|", "^", "~", "<<", ">>", "=", "is null",
    "IS NOT NULL", "true", "False", "1", "0", "-1", "1.5", "07", "08", "0x1F", "1e400", "2e3",
    "9223372036854775808", '"a"', "'b'", '"%_"', 'j["k"]', "a[0]", "a[9]", "v[1]", 'j[0]["x"]',
    "{x}", "{y}", "{z}", "{n}", "[1,2]", '["a"]', "[]", "[[1],[2]]", '[1.5,"a"]',
    "json_contains(", "array_contains_all(", "array_length(", "text_match(", "empty(",
    "starts_with(", "iso", "interval", r'"\\"', r'"\u0041"', "§", "é", "\n",
]
# fmt: on
TEMPLATES = {"x": 1, "y": [1, 2.5], "z": "a"}
TEXTS = [text for text, *_ in (*ROWS, *ERRORS)]


def check(text: str) -> None:
    start = time.perf_counter()
    position: int | None = 0
    try:
        plan = compile_filter(text, SCHEMA, TEMPLATES)
        if plan is not None:
            evaluate(plan, COLUMNS.__getitem__, 4)
    except FilterError as error:
        position = error.position
    except Unimplemented:
        pass
    assert position is not None
    assert 0 <= position <= len(text)
    assert time.perf_counter() - start < LONGEST_S


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=25), st.sampled_from(["", " "]))
def test_token_soup(pieces: list[str], separator: str) -> None:
    check(separator.join(pieces))


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(st.sampled_from(TEXTS), st.lists(st.tuples(st.integers(0, 60), st.sampled_from(PIECES))))
def test_filters_with_pieces_put_in(text: str, changes: list[tuple[int, str]]) -> None:
    for at, piece in changes:
        text = text[:at] + piece + text[at + len(piece) % 3 :]
    check(text)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.text(max_size=60) | st.text("\"'\\[]()0123456789.eExX-_ ", max_size=60))
def test_any_text(text: str) -> None:
    check(text)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(PIECES), st.sampled_from(PIECES), st.integers(500, 4000))
def test_long_repetitions(first: str, second: str, count: int) -> None:
    check(f"{first} {second} " * count)
    check("id in [" + f"{first}," * count)
