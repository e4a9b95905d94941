"""Predicates on JSON read from its text give what they give on parsed documents."""

import numpy as np
import pyarrow as pa
import pytest

from elanus.engine.filter import compile_filter, evaluate, evaluate_json
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

SCHEMA = CollectionSchema(
    name="rows",
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="doc", data_type=DataType.JSON, nullable=True),
    ),
)
ALIKE = [b'{"color":"red","n":1}', b'{"color":"blue","n":22}', b'{"color":"redder","n":-3}']
ODD = [
    b'{"n":1,"color":"red"}',
    b'{"color":"blue","color":"red"}',
    b'{"color":"blue","x":"color"}',
    b'{"color":"color"}',
    b'{"color":"x","colors":"red"}',
    b'{"color" :"red"}',
    b'{"color": "red"}',
    b'{ "color":"red"}',
    b'{"color":["color","red"]}',
    b'{"color":{"color":"red"}}',
    b'{"color":"re\\u0064"}',
    b'{"color":null}',
    b'{"color":1.0}',
    b'{"colo":"r","color":1}',
    b'["color"]',
    b"{}",
    None,
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", [0, 5, 40, 99])
@pytest.mark.parametrize(
    "text", ['doc["color"] == "red"', 'doc["color"] != "red"', 'doc["color"] in ["blue", 1]']
)
def test_a_row_among_rows_that_are_alike(
    monkeypatch: pytest.MonkeyPatch, text: str, place: int, odd: bytes | None
) -> None:
    documents: list[bytes | None] = [ALIKE[at % len(ALIKE)] for at in range(100)]
    documents[place] = odd
    columns = {"doc": pa.array(documents, pa.binary())}
    plan = compile_filter(text, SCHEMA)
    assert plan is not None
    found = {}
    for least in (1, 1_000):
        monkeypatch.setattr(evaluate_json, "MIN_ROWS", least)
        found[least] = evaluate(plan, columns.__getitem__, len(documents))
    assert np.flatnonzero(found[1]).tolist() == np.flatnonzero(found[1_000]).tolist()
    assert found[1].any()
