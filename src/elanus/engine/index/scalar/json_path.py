"""The typed values at one path of a JSON column: what an index of the path is built over.

Values of another type are not there. Integers that no double holds are left out too, and then the
index answers nothing about numbers: the language compares numbers by their value.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from elanus.engine.filter.evaluate_json import MISSING, step
from elanus.engine.filter.json_cast import as_double

ARROW_TYPES: dict[str, pa.DataType] = {
    "BOOL": pa.bool_(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
}
_TYPES: dict[str, tuple[type, ...]] = {"BOOL": (bool,), "DOUBLE": (int, float), "VARCHAR": (str,)}


@dataclass(frozen=True, slots=True)
class PathValues:
    """values: Arrow, without nulls. rows: int64 (values,), where each stands. is_exact: no number
    was left out."""

    values: pa.Array
    rows: npt.NDArray[np.int64]
    is_exact: bool


def path_values(
    column: pa.Array, path: tuple[str, ...], cast: str, *, casts_strings: bool = False
) -> PathValues:
    """``column``: JSON as UTF-8, nulls allowed. ``cast``: BOOL, DOUBLE, VARCHAR, or ARRAY_ of them.
    casts_strings: strings that are numbers count as numbers. Heavy: for a process of its own."""
    is_array = cast.startswith("ARRAY_")
    held = cast.removeprefix("ARRAY_")
    kinds = _TYPES[held]
    values: list[Any] = []
    rows: list[int] = []
    is_exact = True
    for row, value in values_at(column, path):
        found = value if is_array and type(value) is list else () if is_array else (value,)
        for each in found:
            one = as_double(each) if casts_strings else each
            if type(one) not in kinds:
                continue
            if type(one) is int and not fits_double(one):
                is_exact = False
                continue
            values.append(one)
            rows.append(row)
    return PathValues(pa.array(values, ARROW_TYPES[held]), np.array(rows, np.int64), is_exact)


def values_at(column: pa.Array, path: tuple[str, ...]) -> Iterator[tuple[int, Any]]:
    """(row, what is at ``path`` of its document or MISSING), but for nulls."""
    for row, text in enumerate(column):
        document = text.as_buffer()
        if document is None:
            continue
        value: Any = orjson.loads(memoryview(document))
        for key in path:
            value = step(value, key)
            if value is MISSING:
                break
        yield row, value


def fits_double(value: int) -> bool:
    """Whether the integer is the same as a double."""
    try:
        return int(float(value)) == value
    except OverflowError:
        return False
