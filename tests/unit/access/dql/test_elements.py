"""Queries with an element filter: which elements are in the window, and what is refused."""

from typing import Any

import pyarrow as pa
import pytest

from elanus.access.dql.elements import (
    ElementCursor,
    ElementWindow,
    check_element_filter,
    elements_of_rows,
    refuse_count,
)
from elanus.engine.filter import compile_filter
from elanus.errors import InvalidParameter, Unimplemented
from elanus.model.schema import CollectionSchema, FieldSchema, StructSchema
from elanus.model.types import DataType


def part(struct: str, name: str, data_type: DataType, element_type: DataType) -> FieldSchema:
    return FieldSchema(
        name=f"{struct}[{name}]",
        struct=struct,
        data_type=data_type,
        element_type=element_type,
        type_params={"dim": "2", "max_capacity": "9"},
    )


NUMBERS = part("c", "n", DataType.ARRAY, DataType.INT64)
VECTORS = part("c", "v", DataType.ARRAY_OF_VECTOR, DataType.FLOAT_VECTOR)
OTHERS = part("d", "v", DataType.ARRAY_OF_VECTOR, DataType.FLOAT_VECTOR)
SCHEMA = CollectionSchema(
    name="c",
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        NUMBERS,
        VECTORS,
        OTHERS,
    ),
    structs=(StructSchema(name="c"), StructSchema(name="d")),
)
ROWS = [(1, [5, 0, 6]), (2, [7]), (4, [0, 8, 9, 0])]
PAIRS = [(1, 0), (1, 2), (2, 0), (4, 1), (4, 2)]


def elements_in(window: ElementWindow, rows: Any = ROWS) -> list[tuple[int, int]]:
    plan = compile_filter("element_filter(c, $[n] > 0)", SCHEMA)
    assert plan is not None
    assert plan.elements is not None
    batch = pa.record_batch(
        {
            "id": pa.array([number for number, _ in rows], pa.int64()),
            "c[n]": pa.array([numbers for _, numbers in rows], pa.list_(pa.int64())),
        }
    )
    shown, places = elements_of_rows(plan.elements, batch, "id", window)
    assert len(places) == shown.num_rows
    ids = shown.column("id").to_pylist()
    return [(i, at) for i, row in zip(ids, places, strict=True) for at in row.tolist()]


@pytest.mark.parametrize("offset", range(7))
@pytest.mark.parametrize("limit", [None, 1, 2, 3, 9])
def test_limit_and_offset_count_elements(offset: int, limit: int | None) -> None:
    end = None if limit is None else offset + limit
    window = ElementWindow(offset, limit)
    assert elements_in(window) == PAIRS[offset:end]
    assert elements_in(window, ROWS[: window.row_limit]) == PAIRS[offset:end]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_go_on_behind_the_last_element(size: int) -> None:
    found: list[tuple[int, int]] = []
    after = None
    while True:
        rows = ROWS if after is None else [row for row in ROWS if row[0] >= int(after.key)]
        window = ElementWindow(0, size, after)
        page = elements_in(window, rows[: window.row_limit])
        if not page:
            break
        found += page
        after = ElementCursor(str(page[-1][0]), page[-1][1])
    assert found == PAIRS


def test_no_rows_have_no_elements() -> None:
    assert elements_in(ElementWindow(0, 5), []) == []
    assert elements_in(ElementWindow(), [(1, [0]), (2, [])]) == []


def test_only_single_vectors_of_the_same_struct_take_an_element_filter() -> None:
    plan = compile_filter("id > 1 and element_filter(c, $[n] > 0)", SCHEMA)
    check_element_filter(plan, VECTORS, has_elements=True)
    check_element_filter(None, VECTORS, has_elements=False)
    check_element_filter(compile_filter("id > 1", SCHEMA), OTHERS, has_elements=True)
    for field, has_elements in ((VECTORS, False), (OTHERS, True)):
        with pytest.raises(InvalidParameter, match="vector sub-fields of the same struct array"):
            check_element_filter(plan, field, has_elements=has_elements)


def test_elements_are_not_counted() -> None:
    with pytest.raises(Unimplemented, match="use MATCH_ANY to count rows"):
        refuse_count(compile_filter("element_filter(c, $[n] > 0)", SCHEMA))
    refuse_count(compile_filter("match_any(c, $[n] > 0)", SCHEMA))
    refuse_count(None)
