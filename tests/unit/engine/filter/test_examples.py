"""The examples of the filter language: each filter with the rows it gives, or its error."""

import pytest
from tests.unit.engine.filter.sample import SCHEMA, STATIC_SCHEMA, passing

from elanus.engine.filter import compile_filter
from elanus.errors import FilterError

ROWS = [
    ("id in [1, 3]", [1, 3]),
    ("id not in [1, 3]", [2, 4]),
    ("id NOT in [1, 3]", [2, 4]),
    ("i > 0", [1, 2]),
    ("i != 1", [2, 4]),
    ("not (i == 1)", [2, 4]),
    ("i is null", [3]),
    ("i IS NOT NULL", [1, 2, 4]),
    ("f is null", []),
    ("i < 1000", [1, 2, 4]),
    ("i == 1000", []),
    ("i != 1000", [1, 2, 4]),
    ("i in [1000, 2]", [2]),
    ("f == 1", []),
    ("f == 100", [4]),
    ("0 < f <= 1.5", [1, 2]),
    ("1.5 >= f > 0", [1, 2]),
    ("i + 1 == 3", [2]),
    ("1 + i == 3", [2]),
    ("i % 2 == 0", [2, 4]),
    ("i * 2 > 2", [2]),
    ("i * 2 == -256", [4]),
    ("2 ** 3 == 8", [1, 2, 3, 4]),
    ("b == true", [1, 3]),
    ("!(b == true)", [2, 4]),
    ("b == true and id > 1", [3]),
    ("b == true && id > 1 || id == 4", [3, 4]),
    ('s == ""', [4]),
    ('s > "g"', [1, 2]),
    ('s like "red%"', [1]),
    ('s like "%apple%"', [1, 2]),
    ('s like "%apple"', [1]),
    ('s like "r_d%"', [1]),
    ('s like "%"', [1, 2, 3, 4]),
    ('s like ""', [4]),
    (r's like "100\\%"', []),
    ('not s like "red%"', [2, 3, 4]),
    ('s =~ "^red"', [1]),
    (r's =~ "ap{2}le\b"', [1, 2]),
    (r's =~ "ap{2}le\\b"', [1, 2]),
    ('s !~ "^red"', [2, 3, 4]),
    ('not s =~ "^red" and s !~ "^$"', [2, 3]),
    ('j["t"] =~ "^a"', [1]),
    ('v[0] =~ "^a"', [1, 4]),
    ("s in [\"red apple\", 'Red wine']", [1, 3]),
    ('j["k"] == 1', [1]),
    ('j["k"] >= 1', [1, 2]),
    ('j["k"] == "1"', [3]),
    ('j["k"] != 1', [2, 3]),
    ('j["zz"] != 1', [1, 2, 3]),
    ('not (j["k"] > 1)', [1, 3]),
    ('j["k"] in [1, 1.5]', [1, 2]),
    ('j["k"] not in [1]', [2, 3]),
    ('j["n"]["x"][0] == 1', [1]),
    ('j["n"]["x"] == [1, 2]', [1]),
    ('j["t"] like "a%"', [1]),
    ('exists j["e"]', []),
    ('exists j["t"]', [1, 2]),
    ('exists(j["t"])', [1, 2]),
    ('not exists j["t"]', [3, 4]),
    ('j["t"] is null', [3, 4]),
    ('j["t"] is not null', [1, 2]),
    ("j is null", [4]),
    ('json_contains(j["l"], "a")', [3]),
    ('JSON_CONTAINS(j["l"], [2])', [3]),
    ('json_contains_all(j["n"]["x"], [1, 2])', [1]),
    ('json_contains_any(j["l"], [9, "a"])', [3]),
    ('array_length(j["l"]) == 3', [3]),
    ('array_length(j["k"]) == 0', [1, 2, 3]),
    ('text_match(s, "red")', [1, 3]),
    ('TEXT_MATCH(s, "red pie")', [1, 2, 3]),
    ('text_match(s, "red apple", minimum_should_match=2)', [1]),
    ('text_match(s, "")', []),
    ('text_match_fuzzy(s, "rde", max_edit_distance=1)', [1, 3]),
    ('TEXT_MATCH_FUZZY(s, "rde", MAX_EDIT_DISTANCE=0)', []),
    ('not text_match(s, "red")', [2, 4]),
    ('text_match(s, "red") and id > 1', [3]),
    ('phrase_match(s, "green pie")', []),
    ('phrase_match(s, "apple pie")', [2]),
    ('phrase_match(s, "green pie", 1)', [2]),
    ('phrase_match(s, "apple red", 2)', [1]),
    ('phrase_match(s, "apple red", 1)', []),
    ('j["k"] + 1 == 2', [1]),
    ("d == 5", [1]),
    ('$meta["d"] == "5"', [2]),
    ("exists d", [1, 2]),
    ("d != 5", [2, 3, 4]),
    ("q[0] == 1", [4]),
    ("nokey == 1", []),
    ("a[0] == 1", [1]),
    ("a[1] != 2", []),
    ("not (a[9] == 1)", [1, 2, 3, 4]),
    ("array_contains(a, 2)", [1, 4]),
    ("array_contains_all(a, [1, 3])", [1]),
    ('array_contains_any(v, ["b", "c"])', [1, 3]),
    ("array_contains_all(a, [])", [1, 2, 3, 4]),
    ("array_contains_any(a, [])", []),
    ("array_length(a) > 1", [1, 4]),
    ("a == [2, 2]", [4]),
    ("a in [[4], [2, 2]]", [2, 4]),
    ('v[0] like "a%"', [1, 4]),
    ("id == 0x2", [2]),
    ("id == 02", [2]),
    ("id == 0b10", [2]),
    ("id >= -9223372036854775808", [1, 2, 3, 4]),
    ("i < f", [4]),
    ('(id in [1,2]) and not (s like "%pie")', [1]),
    ("id in []", []),
    ("i not in []", [1, 2, 4]),
    ("i == 1 or id == 3", [1, 3]),
    ('starts_with(s, "re")', [1]),
    ("empty(s)", [4]),
    ("id == 1 + 2 * 3 - 4", [3]),
    ("id == 5 / 2", [2]),
    ("id == -7 / 3 + 4", [2]),
    ("id == 7 % 4", [3]),
    ("5 + (-7) % 4 == id", [2]),
    ("f < 1e1 and f > .5", [2]),
    ("f == 0x1p-1", [1]),
    ("id in [1, 2,]", [1, 2]),
    ("id == 1 or (id == 2 or (id == 3))", [1, 2, 3]),
]

ERRORS = [
    ("is null i", "line 1:0", 0),
    ('text_match(i, "a")', "text match operation on non-string is unsupported", 11),
    ('text_match(j["t"], "a")', "text match operation on non-string is unsupported", 11),
    (
        'text_match(s, "x", minimum_should_match=0)',
        "minimum_should_match should be >= 1, got 0",
        19,
    ),
    (
        'text_match(s, "x", minimum_should_match=1001)',
        "minimum_should_match should be <= 1000, got 1001",
        19,
    ),
    ('text_match(s, "x", minimum_should_match=a)', "mismatched input 'a'", 40),
    ('text_match(s, "x", 2)', "text_match takes minimum_should_match by its name", 19),
    (
        'text_match_fuzzy(s, "x", max_edit_distance=3)',
        "max_edit_distance should be in [0, 2], got 3",
        25,
    ),
    (
        'text_match_fuzzy(s, "x", minimum_should_match=1)',
        "text_match_fuzzy takes max_edit_distance by its name",
        25,
    ),
    ("text_match(s, 1)", "the query of a text match must be a string", 14),
    ("array_length(minimum_should_match=1) == 1", "has no option minimum_should_match", 13),
    ('phrase_match(i, "a")', "phrase match operation on non-string is unsupported", 13),
    (
        'phrase_match(s, "a", 1.5)',
        '"slop" should be a const integer expression with "uint32" value. '
        '"slop" expression passed: 1.5',
        21,
    ),
    (
        'phrase_match(s, "a", -1)',
        '"slop" should not be a negative interger. "slop" passed: -1',
        21,
    ),
    (
        'phrase_match(s, "a", 4294967296)',
        '"slop" exceeds the range of "uint32". "slop" expression passed: 4294967296',
        21,
    ),
    ("random_sample(1)", "too close to 0 or 1(the difference should be larger than 1e-10)", 14),
    ("random_sample(1.0)", "the sample factor should be between 0 and 1", 14),
    ("random_sample(-0.5)", "but got -0.5", 14),
    (
        "random_sample(0.5) and id > 1",
        "random sample expression can only be the last expression in the logical and expression",
        0,
    ),
    (
        "id > 1 or random_sample(0.5)",
        "random sample expression cannot be used in logical and expression",
        10,
    ),
    (
        "not random_sample(0.5)",
        "random sample expression cannot be used in unary expression",
        4,
    ),
    ("b and random_sample(0.5)", "'and' can only be used between boolean expressions", 0),
    ("i == 1.0", "cannot cast value to Int8, value: float_val:1", 5),
    ("5 < f < 1", "invalid range: lowerbound is greater than upperbound", 0),
    ("0 < f > 1", "", 0),
    ("3 - i == 1", "module field is not yet supported", 2),
    ("i / 0 == 1", "division or modulus by zero", 2),
    ("f % 2 == 0", "modulo can only apply on integer types", 2),
    ("1 / 0 == id", "cannot divide by zero", 2),
    ("i + 1.5 == 1", "'add' cannot perform arithmetic between Int8 field and Double", 2),
    ("true", "predicate is not a boolean expression: true, data type: Bool", 0),
    ("b", "predicate is not a boolean expression: b, data type: Bool", 0),
    ("b == 1", "comparisons between Bool and Int64 are not supported", 0),
    ("not b == true", "not op can only be applied on boolean expression", 0),
    ("not i in [1]", "not op can only be applied on boolean expression", 0),
    ("id in not [1]", "not can only apply on boolean", 6),
    ("id > 0 or false", "'or' can only be used between boolean expressions", 10),
    ("id > 0 and b", "'and' can only be used between boolean expressions", 11),
    ('i like "1%"', "like operation on non-string or no-json field is unsupported", 0),
    ("s == 1", "comparisons between VarChar and Int64 are not supported", 0),
    ("exists j", "exists operations are only supportted on json key", 7),
    ("exists i", "exists operations are only supportted on json field, got:Int8", 7),
    ('json_contains_all(j["l"], 1)', "ContainsAll operation element must be an array", 26),
    ('array_contains(a, "x")', 'cannot cast value to Int64, value: string_val:"x"', 18),
    (
        'array_contains_any(a, ["x"])',
        "ContainsAny operation can't compare between array element type: Int64 and VarChar",
        22,
    ),
    (
        "array_contains(i, 1)",
        "contains operation are only supported on json or array fields now, got: i",
        15,
    ),
    ("a > 1", "can not comparisons array fields directly", 0),
    ('a["x"] == 1', "can only access array field with integer index", 0),
    ("i[0] == 1", "Int8 data type not supported accessed with []", 0),
    ("j[abc] == 1", "json key must be enclosed in double quotes or single quotes:", 2),
    ('j[""] == 1', "invalid identifier", 0),
    ("id & 1 == 1", "BitAnd is not supported", 3),
    ("id << 1 == 1", "shift is not supported", 3),
    ("s == f", "comparisons between VarChar and Float are not supported", 0),
    ("j == i", "two column comparison with JSON type is not supported", 0),
    ("id And b == true", "invalid expression: id And b == true", 3),
    ("id inn [1, 2]", "invalid expression: id inn [1, 2]", 3),
    ("id in 1", "the right-hand side of 'in' must be a list, but got: 1", 6),
    ("1 in [1]", "'term' can only be used on non-const expression, but got: 1", 0),
    ("i + 1 in [1]", "'term' can only be used on single field, but got: i + 1", 0),
    ("b in [0]", "value 'int64_val:0' in list cannot be casted to Bool", 5),
    ("id in [1, 1.5]", "value 'float_val:1.5' in list cannot be casted to Int64", 6),
    ("id in [i]", "array element type must be generic value, but got: i", 7),
    ("id == 9223372036854775808", "value out of range", 6),
    ("id == 99999999999999999999", "value out of range", 6),
    ("id in [1, 99999999999999999999]", "value out of range", 10),
    ("i ** 2 == 4", "power can only apply on constants: i ** 2", 2),
    ("-i == 1", "unexpected op: -", 0),
    ("1 == 'a'", "comparison operations cannot be applied to two incompatible operands", 2),
    ("id == 1 and\n  id == §", "line 2:8 token recognition error at: '§'", 20),
    ("(id == 1", "line 1:8", 8),
    ("id == 1)", "invalid expression: id == 1)", 7),
    ("id ==", "line 1:5 mismatched input '<EOF>'", 5),
    (r's == "\q"', "invalid syntax", 5),
    ("nofunction(s)", "function nofunction not found", 0),
]


@pytest.mark.parametrize(("text", "ids"), ROWS, ids=[text for text, _ in ROWS])
def test_a_filter_gives_its_rows(text: str, ids: list[int]) -> None:
    assert passing(text) == ids


@pytest.mark.parametrize(
    ("text", "reason", "position"), ERRORS, ids=[text for text, _, _ in ERRORS]
)
def test_a_wrong_filter_says_what_and_where(text: str, reason: str, position: int) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, SCHEMA)
    assert reason in caught.value.message
    assert caught.value.message.endswith(": invalid parameter")
    if not reason.startswith("predicate"):
        assert caught.value.message.startswith(f"cannot parse expression: {text}, error: ")
    assert caught.value.position == position


def test_an_unknown_name_needs_the_dynamic_field() -> None:
    with pytest.raises(FilterError, match="field nokey not exist"):
        compile_filter("nokey == 1", STATIC_SCHEMA)


TEMPLATES = [
    ("id in {ids}", {"ids": [1, 2]}, [1, 2]),
    ("id in { ids }", {"ids": (1, 2), "surplus": None}, [1, 2]),
    ("{x} < f < {y}", {"x": 0, "y": 1.0}, [1]),
    ("i + {x} == {y}", {"x": 1, "y": 3}, [2]),
    ("not (s == {x})", {"x": "Red wine"}, [1, 2, 4]),
    ("array_contains_all(a, {x})", {"x": [1, 3]}, [1]),
    ("array_length(a) == {n}", {"n": 1}, [2]),
    ("s like {p}", {"p": "%apple%"}, [1, 2]),
    ("s =~ {p}", {"p": r"appl\w"}, [1, 2]),
    ("not (i == {x}) and id > {x}", {"x": 1}, [2, 4]),
    ('j["k"] == {x}', {"x": "1"}, [3]),
    ("json_contains(j['l'], {x})", {"x": [2]}, [3]),
    ("b == {x}", {"x": True}, [1, 3]),
    ("a in {x}", {"x": [[4], [2, 2]]}, [2, 4]),
    ("{x} <= i", {"x": 2}, [2]),
    ("text_match(s, {x})", {"x": "wine"}, [3]),
]

TEMPLATE_ERRORS = [
    ("id == {x}", {}, "the value of expression template variable name {x} is not found"),
    ("{x} < f < 2", {}, "the lower value of expression template variable name {x} is not found"),
    ("1 < f < {x}", {}, "the upper value of expression template variable name {x} is not found"),
    ("id in {x}", {"x": 1}, "the value of term expression template variable {x} is not array"),
    (
        "id == {x}",
        {"x": None},
        "expression template variable value is nil, template name: {x}",
    ),
    ("id == {x}", {"x": 1.5}, "cannot cast value to Int64, value: float_val:1.5"),
    (
        "1 == {x}",
        {"x": 1},
        "placeholder was not supported between two constants with operator: ==",
    ),
]


@pytest.mark.parametrize(("text", "templates", "ids"), TEMPLATES)
def test_templates_stand_for_constants(
    text: str, templates: dict[str, object], ids: list[int]
) -> None:
    assert passing(text, templates) == ids


@pytest.mark.parametrize(("text", "templates", "reason"), TEMPLATE_ERRORS)
def test_a_wrong_template_is_named(text: str, templates: dict[str, object], reason: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, SCHEMA, templates)
    assert reason in caught.value.message
