"""Random columns, random filters: the vectorised evaluation agrees with the slow reference."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from elanus.engine.filter import compile_filter, evaluate, evaluate_json
from elanus.engine.filter.bounds import excludes
from elanus.model.geometry import wkb_of
from elanus.model.schema import arrow_type
from elanus.model.types import DataType
from elanus.storage.formats.columns import statistics_of
from tests.oracle import reference
from tests.oracle.profiles import examples
from tests.oracle.strategies import (
    KINDS,
    SCHEMA,
    cases,
    dynamic,
    element_leaves,
    filters,
    leaves,
)
from tests.unit.engine.filter.scanned import ScannedText


def columns_of(table: list[dict[str, Any]]) -> dict[str, pa.Array]:
    columns = {}
    for schema_field in SCHEMA.fields:
        values = [row[schema_field.name] for row in table]
        if schema_field.data_type is DataType.JSON:
            values = [None if value is None else json.dumps(value).encode() for value in values]
        if schema_field.data_type is DataType.GEOMETRY:
            values = [None if at is None else wkb_of(f"POINT({at[0]} {at[1]})") for at in values]
        columns[schema_field.name] = pa.array(values, arrow_type(schema_field))
    return columns


def texts(_name: str, column: pa.Array) -> ScannedText:
    return ScannedText(column, reference.tokens)


def bounds_of(column: pa.Array) -> tuple[Any, Any] | None:
    least, greatest = statistics_of(column)
    return None if least is None else (least, greatest)


def check(tree: tuple, table: list[dict[str, Any]], sliced: bool) -> None:
    text = reference.render(tree)
    plan = compile_filter(text, SCHEMA)
    assert plan is not None
    columns = columns_of(table)
    if sliced and table:
        columns = {name: column.slice(1) for name, column in columns.items()}
        table = table[1:]
    expected = [reference.decide(dynamic(tree), row, KINDS) is True for row in table]
    asked = []

    def column(name: str) -> pa.Array:
        asked.append(name)
        return columns[name]

    found = evaluate(plan, column, len(table), texts=texts)
    assert found.dtype == np.bool_
    assert found.tolist() == expected, text
    assert plan.fields.issuperset(asked)
    if any(expected):
        assert not excludes(plan.root, lambda name: bounds_of(columns[name])), text
    candidates = np.array([bool(at % 3) for at in range(len(table))], np.bool_)
    narrowed = evaluate(plan, column, len(table), candidates.copy(), texts)
    assert narrowed.tolist() == (np.array(expected, np.bool_) & candidates).tolist(), text


@pytest.fixture(params=[1, 1_000], ids=["scanned", "parsed"], autouse=True)
def _json_both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON is read from its text where that can be, or parsed."""
    monkeypatch.setattr(evaluate_json, "MIN_ROWS", request.param)


@examples(share=0.5)
@given(case=cases(leaves() | leaves().map(lambda leaf: ("not", leaf))), sliced=st.booleans())
def test_every_predicate_gives_the_rows_of_the_reference(
    case: tuple[tuple, list[dict[str, Any]]], sliced: bool
) -> None:
    check(*case, sliced)


@examples(share=0.25)
@given(case=cases(filters), sliced=st.booleans())
@example(case=(("compare", ("id",), "==", 1), []), sliced=False)
def test_every_filter_gives_the_rows_of_the_reference(
    case: tuple[tuple, list[dict[str, Any]]], sliced: bool
) -> None:
    check(*case, sliced)


@examples(share=0.1)
@given(
    case=cases(element_leaves() | element_leaves().map(lambda leaf: ("not", leaf))),
    sliced=st.booleans(),
)
def test_every_predicate_on_elements_gives_the_rows_of_the_reference(
    case: tuple[tuple, list[dict[str, Any]]], sliced: bool
) -> None:
    check(*case, sliced)
