"""What a predicate reads, and the rough price of reading it."""

from typing import TypeAlias

import msgspec

from elanus.model.types import DataType

COST_NUMBER = 1
COST_STRING = 8
COST_PATTERN = 60
COST_ARRAY = 12
TYPICAL_ELEMENTS = 8
"""Of a row of an array of structs, where a price has to be guessed."""
COST_TEXT = 200
COST_DECODED = 1_000
"""Of a row that must be decoded first: JSON, geometries."""

JsonPath: TypeAlias = tuple[str, tuple[str, ...]]
"""A JSON field, and subscripts."""


class Column(msgspec.Struct, frozen=True):
    """What a predicate reads: a column, an element of an array column, or a path into JSON.

    type: the type of the value that is read (of the element for an array element). item: the
    element type of a whole array. path: the subscripts of a JSON path. element: the index of an
    array element, or -1. each: the column of the elements of all rows, in a predicate on elements.
    cast: numbers meet the strings of a JSON path that are numbers too (see ``json_cast``).
    """

    name: str
    type: DataType
    nullable: bool = False
    item: DataType = DataType.NONE
    path: tuple[str, ...] = ()
    element: int = -1
    each: bool = False
    cast: bool = False

    @property
    def key(self) -> str:
        if self.path:
            return f"{self.name}{list(self.path)!r}{' as double' if self.cast else ''}"
        if self.each:
            return f"{self.name}[$]"
        return self.name if self.element < 0 else f"{self.name}[{self.element}]"

    @property
    def is_json(self) -> bool:
        return self.type is DataType.JSON

    @property
    def is_scalar(self) -> bool:
        """A column whose rows are single values: not JSON, not an array or an element of one."""
        return self.element < 0 and self.type not in (DataType.JSON, DataType.ARRAY)

    @property
    def cost(self) -> int:
        if self.type in (DataType.JSON, DataType.GEOMETRY):
            return COST_DECODED
        base = COST_STRING if self.type is DataType.VARCHAR else COST_NUMBER
        return base + COST_ARRAY if self.element >= 0 or self.type is DataType.ARRAY else base
