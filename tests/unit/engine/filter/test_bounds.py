"""Segments that a filter can't pass are known by the bounds of their columns."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.engine.filter.sample import SCHEMA

from elanus.engine.filter import compile_filter
from elanus.engine.filter.bounds import excludes

BOUNDS: Mapping[str, tuple[Any, Any]] = {
    "id": (100, 200),
    "f": (-1.5, 0.5),
    "s": ("bear", "deer"),
    "b": (False, False),
}


def is_excluded(text: str) -> bool:
    plan = compile_filter(text, SCHEMA)
    assert plan is not None
    return excludes(plan.root, BOUNDS.get)


@pytest.mark.parametrize(
    "text",
    [
        "id == 99",
        "id > 200",
        "id >= 201",
        "id < 100",
        "id <= 99",
        "200 < id < 300",
        "201 <= id <= 300",
        "1 <= id < 100",
        "id in [1, 99, 201]",
        "f > 0.5",
        "s == 'ant'",
        "s > 'deer'",
        "s in ['ant', 'zebra']",
        "b == true",
        "id > 200 and i == 1",
        "id > 200 or f > 1",
        "not (id <= 200)",
    ],
)
def test_no_row_can_pass(text: str) -> None:
    assert is_excluded(text)


@pytest.mark.parametrize(
    "text",
    [
        "id == 100",
        "id > 199",
        "id >= 200",
        "id < 101",
        "id <= 100",
        "200 <= id < 300",
        "1 <= id <= 100",
        "id in [1, 150]",
        "f >= 0.5",
        "s == 'cat'",
        "s in ['ant', 'cat']",
        "b == false",
        "i == 7",
        "id > 200 or i == 1",
        "id != 150",
        "j['id'] == 1",
        "a[0] == 1",
        "i is null",
        "s like 'z%'",
    ],
)
def test_a_row_may_pass(text: str) -> None:
    assert not is_excluded(text)
