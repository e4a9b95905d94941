"""Arrays of structs in JSON to columns, through the core's own checks, and back."""

from typing import Any

import msgspec
import orjson
import pytest

from elanus.access.rest.results import query_rows
from elanus.errors import InvalidParameter
from elanus.model.schema import CollectionSchema, FieldSchema, StructSchema
from elanus.model.types import DataType
from elanus.rows.build import build_rows, by_field
from elanus.rows.objects import WriteMode, field_messages
from elanus.rows.structs import check_structs
from elanus.rows.unfit import InsertDataError
from elanus.wire.columns import decode_column
from elanus.wire.lists import flattened
from elanus.wire.results import field_messages as encode_rows

PARAMS = {"dim": "2", "max_length": "9", "max_capacity": "3"}
PARTS = {
    "word": (DataType.ARRAY, DataType.VARCHAR),
    "number": (DataType.ARRAY, DataType.INT64),
    "real": (DataType.ARRAY, DataType.FLOAT),
    "emb": (DataType.ARRAY_OF_VECTOR, DataType.FLOAT_VECTOR),
    "bits": (DataType.ARRAY_OF_VECTOR, DataType.BINARY_VECTOR),
}
SCHEMA = CollectionSchema(
    name="c",
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        *(
            FieldSchema(
                name=f"s[{name}]",
                struct="s",
                data_type=data_type,
                element_type=element,
                type_params={**PARAMS, "dim": "8" if name == "bits" else "2"},
            )
            for name, (data_type, element) in PARTS.items()
        ),
    ),
    structs=(StructSchema(name="s"),),
)


def entry(seed: int = 1, **values: Any) -> dict[str, Any]:
    return {
        "word": f"w{seed}",
        "number": seed,
        "real": seed / 10,
        "emb": [seed, 0.5],
        "bits": "/w==",
        **values,
    }


NULLABLE = msgspec.structs.replace(
    SCHEMA,
    fields=tuple(
        msgspec.structs.replace(field, nullable=bool(field.struct)) for field in SCHEMA.fields
    ),
    structs=(StructSchema(name="s", nullable=True),),
)


def answered(
    rows: list[Any], *, int64_as_text: bool = False, schema: CollectionSchema = SCHEMA
) -> list[Any]:
    messages = field_messages(rows, schema, {}, WriteMode())
    columns = [decode_column(message, name) for name, message in flattened(messages)]
    given = by_field(columns, schema)
    check_structs(given, schema)
    stored = build_rows(given, schema, len(rows), json_max_length=1_000)
    answer = encode_rows(schema, stored, list(schema.by_name))
    found = query_rows(answer, int64_as_text=int64_as_text)
    parsed: list[Any] = orjson.loads(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY))
    return parsed


def test_structs_come_back_as_they_went_in() -> None:
    rows = [{"id": 1, "s": [entry(1), entry(2)]}, {"id": 2, "s": []}, {"id": 3, "s": [entry(3)]}]
    assert answered(rows) == rows
    assert answered([{"id": 9, "s": []}]) == [{"id": 9, "s": []}]
    [text] = answered(rows[:1], int64_as_text=True)
    assert [each["number"] for each in text["s"]] == ["1", "2"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "missing struct array field: s"),
        ({}, "row 1 has a wrong value for the field s"),
        ([entry(emb=None)], "list of FloatVector"),
        ([{**entry(), "more": 1}], "array of objects with bits, emb, number, real, word"),
        ([entry(number="x")], "Array of Int64"),
    ],
)
def test_values_that_are_no_structs(value: Any, said: str) -> None:
    with pytest.raises(InsertDataError, match=said):
        answered([{"id": 1, "s": [entry()]}, {"id": 2, "s": value}])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([entry(emb=[1, 2, 3])], r"the length\(3\) of float data should divide the dim\(2\)"),
        ([entry()] * 4, r"the length \(4\) of 0th array exceeds max capacity \(3\)"),
        ([entry(word="too long to be one")], r"length of varchar field s\[word\] exceeds"),
    ],
)
def test_sizes_are_for_the_core_to_refuse(value: Any, said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        answered([{"id": 1, "s": value}])


def test_structs_may_be_null() -> None:
    rows = [{"id": 1, "s": [entry(1), entry(2)]}, {"id": 2}, {"id": 3, "s": []}, {"id": 4}]
    rows[3]["s"] = None
    shown = [{"s": None, **row} for row in rows]
    assert answered(rows, schema=NULLABLE) == shown
    assert answered([{"id": 1}, {"id": 2}], schema=NULLABLE) == [
        {"id": 1, "s": None},
        {"id": 2, "s": None},
    ]
    with pytest.raises(InsertDataError, match="row 1 has a wrong value for the field s"):
        answered([{"id": 1}, {"id": 2, "s": [entry(number="x")]}], schema=NULLABLE)
    mode = WriteMode(upsert=True, partial=True)
    with pytest.raises(InsertDataError, match="the same fields in every row"):
        field_messages([{"id": 1, "s": None}, {"id": 2}], NULLABLE, {}, mode)
    [_, message] = field_messages([{"id": 1, "s": None}], NULLABLE, {}, mode)
    for part in map(decode_column, message.struct_arrays.fields):
        assert part.valid is not None
        assert part.valid.tolist() == [False]


def test_a_partial_update_may_leave_structs_alone() -> None:
    [message] = field_messages([{"id": 1}], SCHEMA, {}, WriteMode(upsert=True, partial=True))
    assert message.field_name == "id"
