"""Texts that are filters, or nearly, or not at all, and what must hold for each of them."""

import time

from hypothesis import strategies as st

from elanus.engine.filter import compile_filter, evaluate
from elanus.errors import FilterError, Unimplemented
from tests.unit.engine.filter.sample import COLUMNS, SCHEMA, texts
from tests.unit.engine.filter.test_elements import ERRORS as ELEMENT_ERRORS
from tests.unit.engine.filter.test_elements import ROWS as ELEMENT_ROWS
from tests.unit.engine.filter.test_examples import ERRORS, ROWS

LONGEST_CPU_S = 2.0
# fmt: off
PIECES = [
    "id", "i", "f", "s", "b", "j", "a", "v", "d", "$meta", "and", "or", "not", "in", "like",
    "exists", "AND", "!", "&&", "||", "(", ")", "[", "]", "{", "}", ",", "==", "!=", "<", "<=",
    ">", ">=", "+", "-", "*", "/", "%", "**", "&", "|", "^", "~", "<<", ">>", "=", "is null",
    "IS NOT NULL", "true", "False", "1", "0", "-1", "1.5", "07", "08", "0x1F", "1e400", "2e3",
    "9223372036854775808", '"a"', "'b'", '"%_"', 'j["k"]', "a[0]", "a[9]", "v[1]", 'j[0]["x"]',
    "{x}", "{y}", "{z}", "{n}", "[1,2]", '["a"]', "[]", "[[1],[2]]", '[1.5,"a"]',
    "json_contains(", "array_contains_all(", "array_length(", "text_match(", "phrase_match(",
    "minimum_should_match", "random_sample(", "random_sample(0.5)", "st_within(", "st_dwithin(",
    '"POINT(1 1)"', "empty(", "starts_with(", "iso", "interval", "ISO", '"P1M"', "t", "g",
    "match_any(c, ", "match_least(c, ", "MATCH_ALL(c,", "element_filter(c, ", "$[n]", "$[w]", "$",
    "threshold", "threshold=1", "c[n]", "c[w]", "c",
    '"2025-01-01T00:00:00Z"', r'"\\"', r'"\u0041"', "§", "é", "\n",
]
# fmt: on
TEMPLATES = {"x": 1, "y": [1, 2.5], "z": "a"}
KNOWN = [text for text, *_ in (*ROWS, *ERRORS, *ELEMENT_ROWS, *ELEMENT_ERRORS)]

soups = st.tuples(st.lists(st.sampled_from(PIECES), max_size=25), st.sampled_from(["", " "])).map(
    lambda soup: soup[1].join(soup[0])
)
raw = st.text(max_size=60) | st.text("\"'\\[]()0123456789.eExX-_ ", max_size=60)


@st.composite
def changed(draw: st.DrawFn) -> str:
    """A known filter with pieces put in."""
    text = draw(st.sampled_from(KNOWN))
    for at, piece in draw(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(PIECES)))):
        text = text[:at] + piece + text[at + len(piece) % 3 :]
    return text


@st.composite
def repeated(draw: st.DrawFn) -> str:
    """A few tokens, very often: deep nests, long chains, long lists."""
    part = " ".join(draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3))) + " "
    head, tail = draw(
        st.sampled_from([("", ""), ("id in [", "]"), ("", "id == 1"), ("not (", ")")])
    )
    return head + part * draw(st.integers(100, 4000)) + tail


places = st.sampled_from(["id", "i", "f", "s", "b", 'j["k"]', "a[0]", "v[1]", "d", '$meta["q"][0]'])
constants = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.text(max_size=5).map(repr),
    st.sampled_from(["true", "{x}", "{y}", "[1, 2]", '["a", 1]', "1 + 2 * 3", "-(2)", "2 ** 70"]),
)
comparisons = st.sampled_from(
    ["==", "!=", "<", "<=", ">", ">=", "in", "not in", "like", "=~", "!~", "+ 1 =="]
)
calls = st.sampled_from(
    ["array_contains", "json_contains_any", "text_match", "phrase_match", "st_within", "empty"]
)
leaves = st.one_of(
    st.tuples(places, comparisons, constants).map(" ".join),
    st.tuples(constants, comparisons, places, comparisons, constants).map(" ".join),
    st.tuples(calls, places, constants).map(lambda c: f"{c[0]}({c[1]}, {c[2]})"),
    st.tuples(places, st.sampled_from(["is null", "is not null"])).map(" ".join),
    st.tuples(st.just("exists"), places).map(" ".join),
)
members = st.recursive(
    st.tuples(st.sampled_from(["$[n]", "$[w]", "$[x]"]), comparisons, constants).map(" ".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map("".join),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=3,
)
quantified = st.one_of(
    st.tuples(st.sampled_from(["match_any", "MATCH_ALL", "element_filter"]), members).map(
        lambda c: f"{c[0]}(c, {c[1]})"
    ),
    st.tuples(
        st.sampled_from(["match_least", "match_most", "MATCH_EXACT"]), members, st.integers(-1, 3)
    ).map(lambda c: f"{c[0]}(c, {c[1]}, threshold={c[2]})"),
)
grammatical = st.recursive(
    leaves | quantified,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or ", " && "]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=12,
)
any_filter = st.one_of(grammatical, grammatical, soups, changed(), raw, repeated())


def check(text: str) -> None:
    """The compiler answers quickly, with a plan that works or an error of the user's."""
    start = time.thread_time()
    position: int | None = 0
    try:
        plan = compile_filter(text, SCHEMA, TEMPLATES)
        if plan is not None:
            evaluate(plan, COLUMNS.__getitem__, 4, texts=texts)
    except FilterError as error:
        position = error.position
    except Unimplemented:
        pass
    assert position is not None
    assert 0 <= position <= len(text)
    assert time.thread_time() - start < LONGEST_CPU_S
