"""Values at every path of a JSON column: an index of sorted values for each path and kind of value.

Keys that are numbers are left out, as a subscript that is one may mean an element of an array. The
first MAX_PATHS paths are indexed; what is asked of others is left to the scan. Facts and arrays of
its file: those of ``sorted``, each with the number of its index before it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.expression import Leaf
from elanus.engine.filter.indexes import Answer
from elanus.engine.index.scalar.base import Arrays, ColumnIndex, pointer_of
from elanus.engine.index.scalar.json_path import ARROW_TYPES, fits_double, values_at
from elanus.engine.index.scalar.sorted import SortedIndex, sorted_arrays

MAX_PATHS = 1_024
"""Paths of one segment that are indexed, counted once for each kind of value."""

Path = tuple[str, ...]
_CASTS: dict[type, str] = {bool: "BOOL", int: "DOUBLE", float: "DOUBLE", str: "VARCHAR"}


class JsonTreeIndex(ColumnIndex):
    """See the module. Raises KeyError if facts or arrays are missing."""

    def __init__(self, row_count: int, facts: Mapping[str, int | str], arrays: Arrays) -> None:
        super().__init__(row_count, facts, arrays)
        self._by_path: dict[Path, list[SortedIndex]] = {}
        shared = {} if "valid" not in arrays else {"valid": arrays["valid"]}
        for number in range(int(facts["indexes"])):
            prefix = f"{number}."
            own: dict[str, int | str] = _within(facts, prefix)
            index = SortedIndex(row_count, own, {**_within(arrays, prefix), **shared})
            self._by_path.setdefault(index.path, []).append(index)

    def answer(self, leaf: Leaf) -> Answer | None:
        found = (index.answer(leaf) for index in self._by_path.get(leaf.column.path, ()))
        return next((answer for answer in found if answer is not None), None)


def _within(named: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)
    }


@dataclass(slots=True)
class _Values:
    values: list[Any] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    is_exact: bool = True


def tree_arrays(
    column: pa.Array, root: Path, facts: dict[str, int | str]
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an index over what stands at and below ``root``; ``facts`` is added to.
    ``column``: JSON as UTF-8, nulls allowed. Heavy: for a process of its own."""
    found = _found(column, root)
    facts["indexes"] = len(found)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, ((path, cast), held) in enumerate(found.items()):
        values = pa.array(held.values, ARROW_TYPES[cast.removeprefix("ARRAY_")])
        own: dict[str, int | str] = {
            "pointer": pointer_of(path),
            "cast": cast,
            "is_array": int(cast.startswith("ARRAY_")),
            "exact": int(held.is_exact),
        }
        facts.update({f"{number}.{name}": value for name, value in own.items()})
        made = sorted_arrays(values, np.array(held.rows, np.int64), len(column))
        arrays.update({f"{number}.{name}": array for name, array in made.items()})
    return arrays


def _found(column: pa.Array, root: Path) -> dict[tuple[Path, str], _Values]:
    """By path and cast."""
    found: dict[tuple[Path, str], _Values] = {}
    for row, value in values_at(column, root):
        for path, cast, one in _values_of(value, root):
            held = found.get((path, cast))
            if held is None:
                if len(found) >= MAX_PATHS:
                    continue
                held = found[path, cast] = _Values()
            if type(one) is int and not fits_double(one):
                held.is_exact = False
                continue
            held.values.append(one)
            held.rows.append(row)
    return found


def _values_of(value: Any, root: Path) -> Iterator[tuple[Path, str, Any]]:
    """(path, cast, value) of every bool, number and text, and of the elements of arrays."""
    waiting = [(root, value)]
    while waiting:
        path, value = waiting.pop()
        kind = type(value)
        if kind in _CASTS:
            yield path, _CASTS[kind], value
        elif kind is list:
            for element in value:
                if type(element) in _CASTS:
                    yield path, f"ARRAY_{_CASTS[type(element)]}", element
        elif kind is dict:
            waiting += [((*path, k), below) for k, below in value.items() if not k.isdecimal()]
