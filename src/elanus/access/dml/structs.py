"""Arrays of structs in a write: whole structs only, all parts of a row's with as many elements."""

from collections.abc import Mapping

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
        first, *others = ((field, _lengths(field, columns[field.name])) for field in given)
        for other in others:
            _check_equal(struct, first, other)


_Lengths = tuple[FieldSchema, npt.NDArray[np.int32]]


def _lengths(field: FieldSchema, column: WireColumn) -> npt.NDArray[np.int32]:
    """int32 (rows,): the elements of each row."""
    require_holder(column, field)
    lengths: npt.NDArray[np.int32] = pc.list_value_length(column.values).to_numpy()
    return lengths


def _check_equal(struct: str, first: _Lengths, other: _Lengths) -> None:
    (_, expected), (field, lengths) = first, other
    if len(lengths) != len(expected):
        raise InvalidParameter(
            f"inconsistent array length in struct field '{struct}': expected {len(expected)}, "
            f"got {len(lengths)} for sub-field '{field.local_name}'"
        )
    differing = np.flatnonzero(lengths != expected)
    if len(differing):
        row = int(differing[0])
        raise InvalidParameter(
            f"inconsistent element count in struct field '{struct}' at row {row}: expected "
            f"{expected[row]}, got {lengths[row]} for sub-field '{field.local_name}'"
        )
