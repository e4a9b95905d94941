"""What a plan promises beside its rows: canonical keys, values of keys, bounds, big lists."""

import ast

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.engine.filter.sample import COLUMNS, SCHEMA, passing

from elanus.engine.filter import compile_filter, evaluate, key_values
from elanus.engine.filter.plan import Plan
from elanus.errors import CorruptData, FilterError


def plan_of(text: str) -> Plan:
    plan = compile_filter(text, SCHEMA)
    assert plan is not None
    return plan


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_a_blank_filter_is_no_plan(text: str) -> None:
    assert compile_filter(text, SCHEMA) is None


@pytest.mark.parametrize("text", ["1 == 1", "not (1 == 2)", "1 == 1 and 'a' == 'a'"])
def test_constants_alone_can_be_always_true(text: str) -> None:
    assert plan_of(text).always_true


@pytest.mark.parametrize("text", ["id is not null", "s like '%'", "1 == 2", "id not in []"])
def test_a_filter_on_a_column_is_never_always_true(text: str) -> None:
    assert not plan_of(text).always_true


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("i == 1 and s == 'a'", '(s == "a") && i==1'),
        ("i == 1 or i == 2", "i in [2, 1, 2]"),
        ("not (i < 5)", "5 <= i"),
        ("i != 1", "not (i == 1)"),
        ("not (i == 1 or s == 'a')", "s != 'a' and i != 1"),
        ("i == 1 and i == 1", "i == 1"),
        ("i == 1 and (s == 'a' and f > 1)", "(i == 1 and s == 'a') and f > 1"),
        ('j["a"] == 1 and j["b"] == 2', "j['b'] == 2 and j['a'] == 1"),
    ],
)
def test_equal_plans_share_a_key(left: str, right: str) -> None:
    assert plan_of(left).key == plan_of(right).key


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("j['a'] == 1", "j['a'] == true"),
        ("j['a'] == 1", "j['a'] == '1'"),
        ("i == 1 and s == 'a' or f > 1", "i == 1 and (s == 'a' or f > 1)"),
        ("a[1] != 2", "not (a[1] == 2)"),
        ("not (j['a'] > 1)", "j['a'] <= 1"),
        ("s == 'i == 1'", "i == 1"),
        ("f in [1, 2]", "i in [1, 2]"),
    ],
)
def test_different_plans_have_different_keys(left: str, right: str) -> None:
    assert plan_of(left).key != plan_of(right).key


def test_long_lists_are_told_apart_by_their_values() -> None:
    texts = [f"id in {list(range(start, start + 5000))}" for start in (0, 1)]
    first, second = map(plan_of, texts)
    assert first.key != second.key
    assert len(first.key) < 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id == 3", [3]),
        ("id in [3, 1, 3]", [1, 3]),
        ("id == 1 or id == 2", [1, 2]),
        ("3 == id", [3]),
        ("id in [1, 2] and id in [2, 3]", [2]),
        ("id in []", []),
        ("id > 3", None),
        ("id == 3 and f > 1", None),
        ("id != 3", None),
        ("id not in [3]", None),
        ("i == 3", None),
    ],
)
def test_primary_keys_of_a_filter_that_only_names_them(
    text: str, expected: list[int] | None
) -> None:
    keys = plan_of(text).primary_keys
    assert (None if keys is None else keys.to_pylist()) == expected
    assert keys is None or keys.type == pa.int64()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s == 'x'", ["x"]),
        ("s in ['b', 'a'] and f > 1", ["a", "b"]),
        ("(s == 'a' or s == 'b') and (f > 1 and i < 2)", ["a", "b"]),
        ("s == 'a' and s == 'b'", []),
        ("s == 'a' or f > 1", None),
        ("not (s == 'a')", None),
        ("s > 'a'", None),
        ("f > 1", None),
    ],
)
def test_key_values_of_a_filter_that_pins_a_field(text: str, expected: list[str] | None) -> None:
    values = key_values(plan_of(text), "s")
    assert (None if values is None else values.to_pylist()) == expected


def test_a_plan_names_the_columns_it_reads() -> None:
    plan = plan_of("i < f and (s == 'a' or d == 1) and id is not null")
    assert plan.fields == {"i", "f", "s", "$meta"}


@pytest.mark.parametrize("levels", [300, 999])
def test_parentheses_may_nest_deep(levels: int) -> None:
    assert passing("(" * levels + "id == 1" + ")" * levels) == [1]
    assert passing("not (" * 300 + "id == 1" + ")" * 300) == [1]
    nested = "(id == 1 or " * levels + "id == 2" + ")" * levels
    assert passing(nested) == [1, 2]


def test_and_and_or_may_alternate_deep() -> None:
    text = "id == 1"
    for level in range(150):
        text = f"({text} and f > {-level}) or i == {level + 2}"
    assert passing(text) == [1, 2]
    text = "j['k'] == 1"
    for level in range(150):
        text = f"not ({text} and j['x'] == {level})"
    assert passing(text) == [1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000 + "id == 1" + ")" * 100_000,
        "not " * 5000 + "(id == 1)",
        "[" * 5000,
        "(id == 1 and (id == 2 or " * 450 + "id == 3" + "))" * 450,
        "empty(" * 5000,
    ],
)
def test_too_deep_a_nest_is_refused(text: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, SCHEMA)
    assert "deeper than" in caught.value.message
    assert len(caught.value.message) < 10_000


@pytest.mark.parametrize("operator", ["and", "or"])
def test_a_chain_may_be_long(operator: str) -> None:
    text = f" {operator} ".join(f"id != {number}" for number in range(2, 20_000))
    assert passing(text) == ([1] if operator == "and" else [1, 2, 3, 4])


@pytest.mark.parametrize(
    "items",
    [
        [str(number) for number in range(1_000_000)],
        [f"{number}.5" for number in range(300_000)],
        [f'"{number}"' for number in range(300_000)],
        [f"'it{number}'" for number in range(100_000)],
    ],
    ids=["integers", "floats", "strings", "quoted"],
)
def test_a_list_may_be_huge(items: list[str]) -> None:
    field = {"'": "s", '"': "s"}.get(items[0][0], "f" if "." in items[0] else "id")
    listed = {ast.literal_eval(item) for item in items}
    found = evaluate(plan_of(f"{field} in [{', '.join(items)}]"), COLUMNS.__getitem__, 4)
    assert found.tolist() == [value in listed for value in COLUMNS[field].to_pylist()]


def test_integers_beyond_int64_in_a_long_list_are_refused() -> None:
    for number in (2**63, 2**64, 10**30, -(2**63) - 1):
        with pytest.raises(FilterError, match="out of range"):
            compile_filter(f"id in [1, {number}]", SCHEMA)
        with pytest.raises(FilterError, match="out of range"):
            compile_filter(f"f in [1.5, {number}]", SCHEMA)


def test_the_answer_is_the_callers_own() -> None:
    candidates = np.ones(4, np.bool_)
    for text in ("1 == 1", "id > 0"):
        found = evaluate(plan_of(text), COLUMNS.__getitem__, 4, candidates)
        found[:] = False
        assert candidates.all()


def test_columns_are_asked_for_only_if_rows_are_left() -> None:
    asked = []

    def column(name: str) -> pa.Array:
        asked.append(name)
        return COLUMNS[name]

    evaluate(plan_of("j['a'] == 1 and id > 100"), column, 4)
    assert asked == ["id"]


def test_a_column_that_is_not_json_is_reported_by_name() -> None:
    columns = {**COLUMNS, "j": pa.array([b"{", b"1", b"1", b"1"])}
    with pytest.raises(CorruptData, match="field j "):
        evaluate(plan_of("j['a'] == 1"), columns.__getitem__, 4)


@pytest.mark.parametrize("count", [0, 7, 8, 9, 1000])
def test_any_number_of_rows(count: int) -> None:
    numbers = pa.array(range(count), pa.int64())
    found = evaluate(plan_of("id > 5 and not (id == 8)"), lambda _: numbers, count)
    assert np.flatnonzero(found).tolist() == [n for n in range(count) if n > 5 and n != 8]
