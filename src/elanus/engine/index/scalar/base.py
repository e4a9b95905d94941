"""What the scalar indexes have in common: the rows that are null, and which predicates concern
the index at all.

An index is of a whole column or of one path of a JSON column. Of a JSON path it knows the values of
one kind only, so that it answers a predicate whose constants are all of this kind.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.arrays import Bools, validity
from elanus.engine.filter.expression import Between, Compare, Contains, In, Leaf, Like, Matches
from elanus.engine.filter.indexes import Answer
from elanus.engine.index.rows import RowSet

Arrays = Mapping[str, npt.NDArray[Any]]

KINDS: dict[str, tuple[type, ...]] = {
    "BOOL": (bool,),
    "DOUBLE": (int, float),
    "VARCHAR": (str,),
}
"""The Python types of the constants that meet the values of a cast."""


class ColumnIndex(ABC):
    """Implements ``filter.indexes.ScalarIndex``.

    path: that of a JSON index, () of a whole column. cast: what the values of the path are read
    as, a key of KINDS; empty for a column that isn't JSON. is_array: the values are elements.
    """

    def __init__(self, row_count: int, facts: Mapping[str, int | str], arrays: Arrays) -> None:
        self.row_count = row_count
        self.size_bytes = 0
        self._pointer = str(facts.get("pointer", ""))
        cast = str(facts.get("cast", ""))
        self._kinds = KINDS.get(cast.removeprefix("ARRAY_"), ())
        self._is_json = bool(cast)
        self._is_array = bool(facts.get("is_array", 0))
        self._casts_strings = bool(facts.get("casts_strings", 0))
        self._path = path_of(self._pointer)
        self._valid = arrays.get("valid")

    @property
    def path(self) -> tuple[str, ...]:
        return self._path

    @abstractmethod
    def answer(self, leaf: Leaf) -> Answer | None: ...

    def concerns(self, leaf: Leaf) -> bool:
        """Whether ``leaf`` reads what is indexed and its constants are of the values' kind."""
        column = leaf.column
        if column.element >= 0 or column.is_json != self._is_json or column.path != self._path:
            return False
        if isinstance(leaf, Contains) != self._is_array:
            return False
        if not self._is_json:
            return True
        if self._casts_strings != (column.cast and float in self._kinds and not self._is_array):
            return False
        return self._meets(leaf)

    def _meets(self, leaf: Leaf) -> bool:
        if isinstance(leaf, Compare):
            constants: Any = (leaf.value,)
        elif isinstance(leaf, Between):
            constants = (leaf.low, leaf.high)
        elif isinstance(leaf, In | Contains):
            constants = leaf.values
        else:
            return isinstance(leaf, Like | Matches) and str in self._kinds
        return all(type(one) in self._kinds and _is_exact(one) for one in constants)

    def finished(self, truth: Bools, leaf: Leaf) -> Bools:
        """The rows for which ``leaf`` is known and true; ``truth`` is its own, negation aside."""
        if leaf.negated:
            truth = ~truth
        if self._valid is None:
            return truth
        return truth & RowSet(self.row_count, packed=self._valid).mask


def _is_exact(value: Any) -> bool:
    """Whether a constant is the same as a double."""
    if type(value) is not int:
        return True
    try:
        return float(value) == value
    except OverflowError:
        return False


def valid_rows(column: pa.Array) -> dict[str, npt.NDArray[np.uint8]]:
    """The array ``valid`` of an index over ``column``: packed bits, nothing if no row is null."""
    valid = validity(column)
    return {} if valid is None else {"valid": RowSet(len(column), mask=valid).packed}


def path_of(pointer: str) -> tuple[str, ...]:
    """The subscripts of a JSON pointer."""
    parts = pointer.split("/")[1:]
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def pointer_of(path: tuple[str, ...]) -> str:
    """The JSON pointer of some subscripts."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
