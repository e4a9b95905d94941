"""Strings that are numbers count as numbers: by a scan, by the text, and by an index alike."""

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.engine.scalar.test_scalar_indexes import built

from elanus.engine.filter import compile_filter, evaluate, evaluate_json
from elanus.engine.filter.json_cast import as_double
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

SCHEMA = CollectionSchema(
    name="prices",
    enable_dynamic_field=True,
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="j", data_type=DataType.JSON, nullable=True),
        FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True),
    ),
)
ROWS = [
    b'{"a":5}',
    b'{"a":"5"}',
    b'{"a":" 5.0 "}',
    b'{"a":"5e0x"}',
    b'{"a":"12abc"}',
    b'{"a":"-7.5"}',
    b'{"a":"true"}',
    b'{"a":true}',
    b'{"a":"\\u0035"}',
    b'{"a":"9007199254740993"}',
    b'{"a":"1e999"}',
    b'{"a":["5"]}',
    b'{"b":"5"}',
    None,
]
COLUMN = pa.array(ROWS, pa.binary())
CAST = {"json_path": "/a", "json_cast_type": "DOUBLE", "json_cast_function": "STRING_TO_DOUBLE"}
CASES = [
    ('j["a"] == 5', [0, 1, 2, 8]),
    ('j["a"] != 5', [3, 4, 5, 6, 7, 9, 10, 11, 12]),
    ('j["a"] > 4', [0, 1, 2, 8, 9]),
    ('not (j["a"] > 4)', [3, 4, 5, 6, 7, 10, 11, 12]),
    ('-8 < j["a"] < 0', [5]),
    ('j["a"] in [5, -7.5]', [0, 1, 2, 5, 8]),
    ('j["a"] not in [5, -7.5]', [3, 4, 6, 7, 9, 10, 11, 12]),
    ('j["a"] == 9007199254740992', [9]),
]
UNCAST = [
    ('j["a"] == "5"', [1, 8]),
    ('j["a"] == 5 or j["a"] == "12abc"', [0, 1, 2, 4, 8]),
    ('j["a"] like "5%"', [1, 3, 8]),
    ('j["b"] == 5', []),
    ('j["a"] + 1 == 6', [0]),
    ('json_contains(j["a"], 5)', []),
]


def passing(text: str, repeated: int = 1, index: object = None) -> list[int]:
    plan = compile_filter(text, SCHEMA, casts={("j", ("a",))})
    assert plan is not None
    column = pa.concat_arrays([COLUMN] * repeated)
    indexes = {} if index is None else {"j": [index]}
    found = evaluate(plan, lambda _: column, len(column), indexes=indexes)
    parts = np.split(found, repeated)
    assert all(part.tolist() == parts[0].tolist() for part in parts)
    rows: list[int] = np.flatnonzero(parts[0]).tolist()
    return rows


@pytest.mark.parametrize(("text", "expected"), CASES + UNCAST)
def test_strings_that_are_numbers_meet_numbers(text: str, expected: list[int]) -> None:
    assert passing(text) == expected
    assert len(COLUMN) * 10 > evaluate_json.MIN_ROWS
    assert passing(text, repeated=10) == expected


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_an_index_with_the_function_answers_so_too(text: str, expected: list[int]) -> None:
    (index,) = built(COLUMN, [("INVERTED", CAST)])
    assert passing(text, index=index) == expected
    assert index.answered == 1


def test_an_index_answers_only_what_is_read_as_its_values_were() -> None:
    plain = {key: value for key, value in CAST.items() if key != "json_cast_function"}
    whole = {"json_path": "", "json_cast_type": "JSON"}
    text = 'j["a"] == 5'
    for params in (plain, whole):
        (index,) = built(COLUMN, [("INVERTED", params)])
        assert passing(text, index=index) == [0, 1, 2, 8]
        assert index.answered == 0
    (cast,) = built(COLUMN, [("INVERTED", CAST)])
    plan = compile_filter(text, SCHEMA)
    assert plan is not None
    found = evaluate(plan, lambda _: COLUMN, len(COLUMN), indexes={"j": [cast]})
    assert np.flatnonzero(found).tolist() == [0]
    assert cast.answered == 0


def test_plans_with_and_without_the_function_have_different_keys() -> None:
    keys = set()
    for casts in ((), {("j", ("a",))}, {("$meta", ("a",))}):
        for text in ('j["a"] == 5', "a == 5"):
            plan = compile_filter(text, SCHEMA, casts=casts)
            assert plan is not None
            keys.add(plan.key)
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5", 5.0),
        ("\t-0.5e1\n", -5.0),
        ("", ""),
        (" ", " "),
        ("0x10", "0x10"),
        ("+5", "+5"),
        ("05", "05"),
        ("1_000", "1_000"),
        ("inf", "inf"),
        ("NaN", "NaN"),
        ("- 5", "- 5"),
        (5, 5),
        (True, True),
        (["5"], ["5"]),
    ],
)
def test_what_a_string_is_as_a_double(value: object, expected: object) -> None:
    found = as_double(value)
    assert found == expected
    assert type(found) is type(expected)
