"""Predicates on the elements of arrays of structs: their rows, their errors, equal plans.

The rows of the sample: ``c`` is [{n: 1, w: a}, {n: 5, w: b}], [{n: 5, w: a}], [] and null.
"""

import pyarrow as pa
import pytest
from tests.unit.engine.filter.sample import COLUMNS, SCHEMA, passing

from elanus.engine.filter import compile_filter, evaluate
from elanus.engine.filter.evaluate import evaluate_elements
from elanus.engine.filter.plan import Plan
from elanus.errors import FilterError


def plan_of(text: str) -> Plan:
    plan = compile_filter(text, SCHEMA)
    assert plan is not None
    return plan


ROWS = [
    ("match_any(c, $[n] == 5)", [1, 2]),
    ("MATCH_ANY(c, $[n] == 5)", [1, 2]),
    ('match_any(c, $[n] == 5 and $[w] == "a")', [2]),
    ("match_any(c, $[n] > 7)", []),
    ("match_any(c, 1 < $[n] <= 5)", [1, 2]),
    ("match_any(c, 5 >= $[n] > 1)", [1, 2]),
    ("match_any(c, $[n] + 1 == 2)", [1]),
    ("match_any(c, $[n] in [1, 7])", [1]),
    ('match_any(c, $[w] like "%b%")', [1]),
    ('match_any(c, $[w] =~ "^b")', [1]),
    ("match_any(c, $[n] == 2 ** 2 + 1)", [1, 2]),
    ("match_any(c, not ($[n] == 5))", [1]),
    ('match_any(c, $[n] == 1 or $[w] == "a")', [1, 2]),
    ("match_all(c, $[n] == 5)", [2, 3]),
    ("match_all(c, $[n] > 0)", [1, 2, 3]),
    ("match_least(c, $[n] >= 1, threshold=2)", [1]),
    ("MATCH_LEAST(c, $[n] >= 1, THRESHOLD = 1)", [1, 2]),
    ("match_most(c, $[n] >= 1, threshold=1)", [2, 3]),
    ("match_most(c, $[n] >= 1, threshold=0)", [3]),
    ("match_exact(c, $[n] >= 1, threshold=2)", [1]),
    ("match_exact(c, $[n] >= 1, threshold=0)", [3]),
    ("not match_any(c, $[n] == 5)", [3]),
    ("not match_all(c, $[n] == 5)", [1]),
    ("not match_exact(c, $[n] >= 1, threshold=1)", [1, 3]),
    ("match_any(c, $[n] == 1) or id == 4", [1, 4]),
    ("id < 2 and match_any(c, $[n] == 5)", [1]),
    ("match_any(c, $[n] == 1) or match_all(c, $[w] == 'a')", [1, 2, 3]),
    ("match_any(c, $[n] == 5) and not match_any(c, $[w] == 'b')", [2]),
    ("c is null", [4]),
    ("c is not null", [1, 2, 3]),
    ("not (c is null)", [1, 2, 3]),
    ("c[w] is null", [4]),
    ("array_length(c) == 2", [1]),
    ("array_length(c) < 2", [2, 3]),
    ("array_contains(c[n], 1) or c is null", [1, 4]),
    ("c[0][n] == 5", [2]),
]

ROW_LEVEL = "predicate can only reference array elements ($ or $[subField])"
CONSTANT = "predicate must not be constant; it has to test the array element via $ or $[subField]"
ERRORS = [
    ("$[n] == 1", 0, "$[n] syntax can only be used inside ElementFilter or MATCH_*"),
    ("id == 1 and $[n] == 1", 12, "$[n] syntax can only be used inside ElementFilter or MATCH_*"),
    ("1 < $[n] < 2", 4, "$[n] syntax can only be used inside ElementFilter or MATCH_*"),
    ("match_any(c, $[zz] == 1)", 13, "array field not found: c[zz]"),
    ("match_any(zz, $[n] == 1)", 14, "array field not found: zz[n]"),
    ("match_any(a, $[n] == 1)", 13, "array field not found: a[n]"),
    ("match_any(c, $[n] == 'a')", 13, "comparisons between Int64 and VarChar are not supported"),
    ("match_any(c, $[n] ** 2 == 1)", 18, "power can only apply on constants"),
    ("match_any(c, id == 1)", 13, ROW_LEVEL),
    ("match_any(c, $[n] == 1 and c[n] == [1])", 27, ROW_LEVEL),
    ("match_any(c, j['k'] == 1)", 13, ROW_LEVEL),
    ("match_any(c, 1 < id < 3)", 17, ROW_LEVEL),
    ("match_any(c, nokey == 1)", 13, ROW_LEVEL),
    ("match_any(c, $[n] == id)", 21, ROW_LEVEL),
    ("match_any(c, t == iso '2025-01-01')", 13, ROW_LEVEL),
    ("match_any(c, 1 == 1)", 13, CONSTANT),
    ("match_any(c, true)", 13, CONSTANT),
    ("match_any(c, $[n])", 13, "predicate is not a boolean expression: $[n]"),
    ("match_any(c, random_sample(0.5))", 13, "predicate is not a boolean expression"),
    ("match_any(c, $[n] is null)", 18, "extraneous input 'is null'"),
    ("match_any(c, exists $[n])", 20, "exists operations are only supportted on json field"),
    ("match_any(c, array_contains($[n], 1))", 28, "contains operation are only supported on"),
    ("match_any(c, text_match($[w], 'a'))", 24, 'field "c[w]" does not enable match'),
    ("match_any(c)", 11, "mismatched input ')'"),
    ("match_any()", 10, "mismatched input ')'"),
    ("match_any(1, $[n] == 1)", 10, "mismatched input '1'"),
    ("match_any(c, )", 13, "mismatched input ')'"),
    ("match_any(c, $[n] == 1", 22, "missing the end of 'match_any('"),
    ("match_any(c, $[n] == 1, 2)", 24, "match_any takes 2 arguments, but got: 3"),
    ("match_any(c, $[n] == 1, threshold=1)", 24, "match_any takes 2 arguments, but got: 3"),
    ("match_any(c, threshold=1)", 13, "match_any takes a predicate first"),
    ("match_least(c, $[n] == 1)", 0, "match_least takes threshold by its name"),
    ("match_least(c, $[n] == 1, 2)", 0, "match_least takes threshold by its name"),
    ("match_most(c, $[n] == 1, max_edit_distance=2)", 0, "match_most takes threshold by its name"),
    ("match_least(c, $[n] == 1, threshold='a')", 36, "mismatched input 'a'"),
    ("match_least(c, $[n] == 1, threshold=1.5)", 36, "expecting IntegerConstant"),
    ("match_least(c, $[n] == 1, threshold=-1)", 26, "expecting IntegerConstant"),
    (
        "match_least(c, $[n] == 1, threshold=0)",
        26,
        "count in MATCH_LEAST must be positive, got: 0",
    ),
    (
        "match_most(c, $[n] == 1, threshold=-1)",
        25,
        "count in MATCH_MOST cannot be negative, got: -1",
    ),
    (
        "match_exact(c, $[n] == 1, threshold=-3)",
        26,
        "count in MATCH_EXACT cannot be negative, got: -3",
    ),
    (
        "match_any(c, match_all(c, $[n] == 1))",
        13,
        "nested MATCH_ALL is not supported, already inside match expression for field: c",
    ),
    (
        "match_any(c, element_filter(c, $[n] == 1))",
        13,
        "nested ElementFilter is not supported, already inside ElementFilter for field: c",
    ),
    (
        "element_filter(c, $[n] == 1) and id == 1",
        0,
        "element filter expression can only be the last expression in the logical and expression",
    ),
    (
        "element_filter(c, $[n] == 1) and element_filter(c, $[n] == 2)",
        0,
        "element filter expression can only be the last expression in the logical and expression",
    ),
    (
        "element_filter(c, $[n] == 1) or id == 1",
        0,
        "element filter expression can only be the last expression in the logical or expression",
    ),
    (
        "id == 1 or element_filter(c, $[n] == 1)",
        11,
        "element filter expression cannot be used in logical or expression",
    ),
    (
        "not element_filter(c, $[n] == 1)",
        4,
        "element filter expression cannot be used in unary expression",
    ),
    (
        "element_filter(c, element_filter(c, $[n] == 1))",
        18,
        "nested ElementFilter is not supported, already inside ElementFilter for field: c",
    ),
    (
        "element_filter(c, match_any(c, $[n] == 1))",
        18,
        "nested MATCH_ANY is not supported, already inside match expression for field: c",
    ),
    (
        "random_sample(0.5) and element_filter(c, $[n] == 1)",
        0,
        "random sample expression can only be the last expression in the logical and expression",
    ),
    (
        "element_filter(c, $[n] == 1) and random_sample(0.5)",
        0,
        "element filter expression can only be the last expression in the logical and expression",
    ),
    ("element_filter(c, id == 1)", 18, ROW_LEVEL),
    ("element_filter(c, $[zz] == 1)", 18, "array field not found: c[zz]"),
    ("element_filter(c, $[n] == 'a')", 18, "comparisons between Int64 and VarChar"),
    ("c", 0, "predicate is not a boolean expression: c, data type: Array"),
    ("c == [1]", 0, "comparison operations cannot be applied to two incompatible operands"),
    ("1 < c < 2", 4, "can not comparisons array fields directly"),
    ("c in [1]", 0, "'term' can only be used on single field, but got: c"),
    ("c like 'a'", 0, "like operation on complicated expr is unsupported"),
    ("c[0] is null", 0, "ArrayOfStruct data type not supported accessed with []"),
    ("array_contains(c, 1)", 15, "contains operation are only supported on json or array fields"),
    ("c == iso '2025-01-01'", 0, "field 'c' is not a timestamptz datatype"),
    ("Match_Any(1, 1 == 1)", 0, "function Match_Any not found"),
]


ELEMENTS = [
    ("element_filter(c, $[n] == 5)", [(1, 1), (2, 0)]),
    ("ELEMENT_FILTER(c, $[n] >= 1)", [(1, 0), (1, 1), (2, 0)]),
    ("element_filter(c, $[n] == 5 and $[w] == 'a')", [(2, 0)]),
    ("element_filter(c, not ($[w] == 'a'))", [(1, 1)]),
    ("id == 1 and element_filter(c, $[w] == 'a')", [(1, 0)]),
    ("id < 3 and (id > 1 and element_filter(c, $[w] == 'a'))", [(2, 0)]),
    ("match_all(c, $[n] == 5) and element_filter(c, $[w] == 'a')", [(2, 0)]),
    ("element_filter(c, $[n] == 7)", []),
]


@pytest.mark.parametrize(("text", "expected"), ELEMENTS, ids=[text for text, _ in ELEMENTS])
def test_an_element_filter_tells_which_elements_are_meant(
    text: str, expected: list[tuple[int, int]]
) -> None:
    plan = plan_of(text)
    assert plan.elements is not None
    found = evaluate_elements(plan.elements, COLUMNS.__getitem__, 4)
    places = [(1, 0), (1, 1), (2, 0)]
    of_rows = passing(text)
    meant = [each for each, passes in zip(places, found, strict=True) if passes]
    assert [each for each in meant if each[0] in of_rows] == expected
    assert of_rows == sorted({row for row, _ in expected})


@pytest.mark.parametrize(("text", "expected"), ROWS, ids=[text for text, _ in ROWS])
def test_elements_decide_which_rows_pass(text: str, expected: list[int]) -> None:
    assert passing(text) == expected


def test_templates_may_stand_in_predicates_on_elements() -> None:
    assert passing("match_any(c, $[n] in {x})", {"x": [1, 2]}) == [1]
    assert passing("match_all(c, $[w] == {x})", {"x": "a"}) == [2, 3]


@pytest.mark.parametrize(("text", "position", "reason"), ERRORS, ids=[text for text, *_ in ERRORS])
def test_a_wrong_predicate_on_elements_is_refused(text: str, position: int, reason: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, SCHEMA)
    assert caught.value.code == 1100
    assert reason in caught.value.message
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("match_any(c, $[n] == 1)", "match_least(c, $[n] == 1, threshold=1)"),
        ("match_any(c, $[n] == 1 and $[w] == 'a')", "MATCH_ANY(c, $[w] == 'a' && 1 == $[n])"),
        ("match_any(c, $[n] == 1 or $[n] == 2)", "match_any(c, $[n] in [2, 1])"),
        ("not (not match_all(c, $[n] == 1))", "match_all(c, $[n] == 1)"),
    ],
)
def test_equal_plans_share_a_key(left: str, right: str) -> None:
    assert plan_of(left).key == plan_of(right).key


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("match_any(c, $[n] == 1)", "match_all(c, $[n] == 1)"),
        ("match_any(c, $[n] == 1)", "not match_any(c, $[n] == 1)"),
        ("match_any(c, $[n] == 1)", "match_any(c, not ($[n] == 1))"),
        ("match_most(c, $[n] == 1, threshold=1)", "match_most(c, $[n] == 1, threshold=2)"),
        ("match_any(c, $[n] == 1)", "array_contains(c[n], 1)"),
    ],
)
def test_different_plans_have_different_keys(left: str, right: str) -> None:
    assert plan_of(left).key != plan_of(right).key


def test_a_plan_names_the_columns_that_its_elements_are_in() -> None:
    plan = plan_of("match_any(c, $[n] == 1 and not ($[w] == 'a')) and id > 1")
    assert plan.fields == {"c[n]", "c[w]", "id"}
    assert plan_of("match_any(c, $[w] == 'a')").fields == {"c[w]"}


def test_what_lies_beneath_null_rows_and_beyond_a_slice_is_nobodys_element() -> None:
    validity = pa.array([True, False, True, True]).buffers()[1]
    offsets = pa.array([0, 1, 3, 4, 6], pa.int32()).buffers()[1]
    values = pa.array([7, 9, 9, 7, 1, 7], pa.int64())
    column = pa.Array.from_buffers(
        pa.list_(pa.int64()), 4, [validity, offsets], null_count=1, children=[values]
    )
    for start, expected in ((0, [True, False, True, False]), (1, [False, True, False])):
        rows = column.slice(start)
        plan = plan_of("match_all(c, $[n] == 7)")
        assert evaluate(plan, {"c[n]": rows}.__getitem__, len(rows)).tolist() == expected
