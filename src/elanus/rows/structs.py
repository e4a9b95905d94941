"""Arrays of structs in a write: whole structs only, all parts of a row's with as many elements, or
all null."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from elanus.errors import InvalidParameter
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.wire.columns import WireColumn, require_holder


def check_structs(columns: Mapping[str, WireColumn], schema: CollectionSchema) -> None:
    """``columns`` by field. Raises InvalidParameter. Which structs have to be there at all is not
    asked here."""
    for struct, parts in schema.parts_of.items():
        given = [field for field in parts if field.name in columns]
        if not given:
            continue
        if len(given) != len(parts):
            raise InvalidParameter(
                "length of fields of struct field mismatch length of the fields in schema, "
                f"fieldName: {struct}, collectionName:{schema.name}, "
                f"fieldData fields length:{len(given)}, schema fields length:{len(parts)}"
            )
        first, *others = (_Part.of(field, columns[field.name]) for field in given)
        for other in others:
            _check_equal(struct, first, other)


@dataclass(frozen=True, slots=True)
class _Part:
    """lengths: int32 (present rows,), their elements. present: bool (rows,), the rows that are not
    null; None: all."""

    field: FieldSchema
    lengths: npt.NDArray[np.int32]
    present: npt.NDArray[np.bool_] | None

    @staticmethod
    def of(field: FieldSchema, column: WireColumn) -> "_Part":
        present = None if column.valid is None or column.valid.all() else column.valid
        if present is not None and not present.any():
            return _Part(field, np.empty(0, np.int32), present)  # without a holder, perhaps
        require_holder(column, field)
        return _Part(field, pc.list_value_length(column.values).to_numpy(), present)

    def row_of(self, position: int) -> int:
        """The row of a present one."""
        return position if self.present is None else int(np.flatnonzero(self.present)[position])


def _check_equal(struct: str, first: _Part, other: _Part) -> None:
    name = other.field.local_name
    if not _same(first.present, other.present):
        raise InvalidParameter(
            f"inconsistent nulls in struct field '{struct}': the valid_data of sub-field '{name}' "
            f"differs from that of '{first.field.local_name}'"
        )
    expected, lengths = first.lengths, other.lengths
    if len(lengths) != len(expected):
        raise InvalidParameter(
            f"inconsistent array length in struct field '{struct}': expected {len(expected)}, "
            f"got {len(lengths)} for sub-field '{name}'"
        )
    differing = np.flatnonzero(lengths != expected)
    if len(differing):
        at = int(differing[0])
        raise InvalidParameter(
            f"inconsistent element count in struct field '{struct}' at row {first.row_of(at)}: "
            f"expected {expected[at]}, got {lengths[at]} for sub-field '{name}'"
        )


def _same(one: npt.NDArray[np.bool_] | None, other: npt.NDArray[np.bool_] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)
