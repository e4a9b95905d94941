"""Every error that the filter language knows, in Milvus's words, at a place in the text."""

import pytest
from tests.unit.engine.filter.sample import SCHEMA, STATIC_SCHEMA

from elanus.engine.filter import compile_filter
from elanus.errors import FilterError
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

WIDE = CollectionSchema(
    name="wide",
    fields=(
        *SCHEMA.fields,
        FieldSchema(name="vec", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "4"}),
        FieldSchema(name="x", data_type=DataType.TEXT),
        FieldSchema(name="plain", data_type=DataType.VARCHAR),
    ),
)

ERRORS = [
    ("i + 1 + 1 == 3", "complicated arithmetic operations are not supported"),
    ("i + 1 == f", "not supported to combine multiple fields"),
    ("i + f == 1", "not supported to do arithmetic operations between multiple fields"),
    ("i + 1 == f + 1", "complicated arithmetic operations are not supported"),
    ("i % 0 == 1", "division or modulus by zero"),
    ("10 - i == 3", "module field is not yet supported"),
    ("s + 1 == 3", "'add' can only be used between integer or floating or json field expressions"),
    ("i - 1.5 == 3", "'subtract' cannot perform arithmetic between Int8 field and Double"),
    ("i * 1.5 == 3", "'multiply' cannot perform arithmetic between Int8 field and Double"),
    ("i / 1.5 == 3", "'divide' cannot perform arithmetic between Int8 field and Double"),
    ("1 % 0 == id", "cannot modulo by zero"),
    ("1.5 % 2 == f", "modulo can only apply on integer"),
    ("true + 1 == id", "add cannot apply on bool field"),
    ("'a' - 1 == id", "subtract cannot apply on string field"),
    ("2 * 'a' == id", "multiply cannot apply on string field"),
    ("'a' / 2 == id", "divide cannot apply on string field"),
    ("b == 1.5", "comparisons between Bool and Double are not supported"),
    ("i == 'a'", "comparisons between Int8 and VarChar are not supported"),
    ("true < b < false", "invalid range operations on boolean expr"),
    ("1.5 < i < 3", "invalid range operations"),
    ("'a' < i < 'b'", "invalid range operations"),
    ("1 <= f < 1", "invalid range: lowerbound is greater than upperbound"),
    ("id < f < 5", "lowerbound cannot be a non-const expression: id"),
    ("1 < f < id", "upperbound cannot be a non-const expression: id"),
    ("1 < a < 2", "can not comparisons array fields directly"),
    ("a == 1", "can not comparisons array fields directly"),
    ("a == f", "can not comparisons array fields directly"),
    ("a in [1]", "value 'int64_val:1' in list cannot be casted to Array"),
    ("i in ['a']", "value 'string_val:\"a\"' in list cannot be casted to Int8"),
    ("s in [1]", "value 'int64_val:1' in list cannot be casted to VarChar"),
    ("f in [true]", "value 'bool_val:true' in list cannot be casted to Float"),
    ("id in id", "the right-hand side of 'in' must be a list, but got: id"),
    ("id in (1)", "the right-hand side of 'in' must be a list, but got: "),
    ("(id > 1) in [1]", "'term' can only be used on single field, but got: "),
    ("1 + 2 in [3]", ""),
    ("'a' like 'a%'", "like operation on complicated expr is unsupported"),
    ("(i + 1) like 'a%'", "like operation on complicated expr is unsupported"),
    ("a like 'a%'", "like operation on non-string or no-json field is unsupported"),
    ("(i + 1) =~ 'a'", "regex operation on complicated expr is unsupported"),
    ("a =~ 'a'", "regex operation on non-string or no-json field is unsupported"),
    ("s =~ '('", "invalid regex pattern: (: "),
    (r"s !~ '(?<=a)b'", "invalid regex pattern: (?<=a)b: "),
    ("s =~ '(a{1000}){1000}'", "invalid regex pattern"),
    ("id | 1 == 1", "BitOr is not supported"),
    ("id ^ 1 == 1", "BitXor is not supported"),
    ("id >> 1 == 1", "shift is not supported"),
    ("~id == 1", "unexpected op: ~"),
    ("!b", "not op can only be applied on boolean expression"),
    ("not 1 == 1", "not can only apply on boolean"),
    ("id > 0 and 5", "'and' can only be used between boolean expressions"),
    ("exists 1", "exists operations are only supportted on json field, got:Int64"),
    ("exists a[0]", "exists operations are only supportted on json field, got:Int64"),
    (
        "array_length(i) == 1",
        "array_length operation are only supported on json or array fields now, got: i",
    ),
    (
        "array_contains(a, id)",
        "contains operation are only supported explicitly specified element, got: id",
    ),
    ("array_contains(a, 1.5)", "cannot cast value to Int64, value: float_val:1.5"),
    (
        "array_contains_all(i, [1])",
        "contains_all operation are only supported on json or array fields now",
    ),
    (
        "array_contains_any(i, [1])",
        "contains_any operation are only supported on json or array fields now",
    ),
    ("array_contains_any(a, 1)", "ContainsAny operation element must be an array"),
    (
        "array_contains_all(v, [1])",
        "ContainsAll operation can't compare between array element type: VarChar and Int64",
    ),
    ('a["0"] == 1', "can only access array field with integer index"),
    ("a[0][1] == 1", "can only access array field with integer index"),
    ('s["a"] == 1', "VarChar data type not supported accessed with []"),
    ("vec is null", "IsNull/IsNotNull operations are not supported on vector fields"),
    ("vec is not null", "IsNull/IsNotNull operations are not supported on vector fields"),
    ("vec == 1", "filter on vector field (vec) is not supported"),
    ('x == "a"', "filter on text field (x) is not supported yet"),
    ('text_match(plain, "a")', 'field "plain" does not enable match'),
    ('phrase_match(plain, "a")', 'field "plain" does not enable match'),
    ("id == 1 + {x}", "placeholder was not supported between two constants with operator: +"),
    ("id == ", "mismatched input '<EOF>'"),
    ("id == 'a", "token recognition error at: '''"),
    ("id IS  NULL", ""),
    ("id == 1 id == 2", "invalid expression: id == 1 id == 2"),
    (r"s == '\x4'", "invalid syntax"),
    (r"s == '\400'", "invalid syntax"),
    (r"s == '\uD800'", "invalid syntax"),
    ("[1] == [1]", "comparison operations cannot be applied to two incompatible operands"),
    ("1 + 1", "predicate is not a boolean expression: 1 + 1, data type: Int64"),
    ("id", "predicate is not a boolean expression: id, data type: Int64"),
    ("[1]", "predicate is not a boolean expression: [1], data type: Array"),
    ("array_length(a)", "predicate is not a boolean expression: array_length(a), data type: Int64"),
]


@pytest.mark.parametrize(("text", "reason"), ERRORS, ids=[text for text, _ in ERRORS])
def test_a_wrong_filter_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, WIDE, {"x": 1})
    assert caught.value.code == 1100
    assert reason in caught.value.message
    assert caught.value.position is not None
    assert 0 <= caught.value.position <= len(text)


@pytest.mark.parametrize("name", ["exists k", "k is null", "k[0] == 1", "$meta['k'] == 1"])
def test_a_name_without_a_field_needs_the_dynamic_field(name: str) -> None:
    with pytest.raises(FilterError, match="not exist"):
        compile_filter(name, STATIC_SCHEMA)


def test_parentheses_may_nest_hundreds_deep() -> None:
    deep = 900
    assert compile_filter("(" * deep + "id == 1" + ")" * deep, WIDE) is not None
    with pytest.raises(FilterError, match="nested deeper than 3000 levels"):
        compile_filter("(" * 4000 + "id == 1" + ")" * 4000, WIDE)
