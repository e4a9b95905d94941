"""JSON values of one column as an Arrow array, by the rules of the RESTful API.

Numbers may come as text, scalars of a VarChar as anything; everything else must have the JSON type
of its field. Ranges, lengths and dimensions are for the core to check, where a value can travel
there at all.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from elanus.errors import Unimplemented
from elanus.model.schema import SCALAR_ARROW_TYPES, FieldSchema, arrow_type
from elanus.model.types import DataType
from elanus.rows.texts import as_text
from elanus.rows.unfit import Unfit
from elanus.rows.vectors import vectors_of_json
from elanus.wire.vectors import VECTOR_HOLDERS

_INTEGER_BITS = {
    DataType.INT8: 8,
    DataType.INT16: 16,
    DataType.INT32: 32,
    DataType.INT64: 64,
}
TEXT_TYPES = (DataType.GEOMETRY, DataType.TIMESTAMPTZ)
"""Types whose values are texts on the way in and out only."""
_BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def arrow_column(field: FieldSchema, values: Sequence[Any]) -> Any:
    """``values``, none of them None, as an Arrow array of the field's type; dense and binary
    vectors as NumPy (rows, width) and TEXT_TYPES as strings instead. Raises Unfit."""
    data_type = field.data_type
    if data_type in VECTOR_HOLDERS:
        return vectors_of_json(data_type, values)
    if data_type is DataType.ARRAY:
        return _arrays(field, values)
    if data_type is DataType.JSON:
        return pa.array([_json(value) for value in values], pa.binary())
    if data_type in TEXT_TYPES:
        return pa.array(_texts(data_type, values), pa.string())
    if data_type not in SCALAR_ARROW_TYPES:
        raise Unimplemented(
            f"field '{field.name}': the type {data_type.milvus_name} is not implemented yet"
        )
    return _scalars(data_type, values)


def _texts(data_type: DataType, values: Sequence[Any]) -> Sequence[str]:
    for position, value in enumerate(values):
        if not isinstance(value, str):
            raise Unfit(position, data_type.milvus_name, value)
    return values


def _scalars(data_type: DataType, values: Sequence[Any]) -> Any:
    kinds = set(map(type, values))
    name = data_type.milvus_name
    if data_type is DataType.BOOL:
        if kinds != {bool}:
            values = _cast(values, _boolean, name)
    elif data_type is DataType.VARCHAR:
        if kinds != {str}:
            values = [as_text(value) for value in values]
    elif data_type.is_integer:
        if kinds != {int}:
            values = _cast(values, _integer, name)
        _check_bits(values, _INTEGER_BITS[data_type], name)
    else:
        if not kinds <= {int, float}:
            values = _cast(values, _number, name)
        dtype = np.float32 if data_type is DataType.FLOAT else np.float64
        with np.errstate(over="ignore"):  # what becomes infinite is refused by the core
            return pa.array(np.array(values, dtype))
    return pa.array(values, SCALAR_ARROW_TYPES[data_type])


def _cast(values: Sequence[Any], convert: Callable[[Any], Any], name: str) -> list[Any]:
    found = []
    for position, value in enumerate(values):
        try:
            found.append(convert(value))
        except (ValueError, OverflowError) as error:
            raise Unfit(position, name, value) from error
    return found


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    known = _BOOLEANS.get(as_text(value).lower())
    if known is None:
        raise ValueError("not a boolean")
    return known


def _integer(value: Any) -> int:
    if isinstance(value, bool | list | dict):
        raise ValueError("not an integer")
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("not an integer")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool | list | dict):
        raise ValueError("not a number")
    return float(value)


def _check_bits(values: Sequence[int], bits: int, name: str) -> None:
    bound = 1 << (bits - 1)
    if values and not (-bound <= min(values) and max(values) < bound):
        position = next(n for n, value in enumerate(values) if not -bound <= value < bound)
        raise Unfit(position, f"{name}, which has {bits} bits", values[position])


def _json(value: Any) -> bytes:
    """A text that is JSON itself is taken for what it says: answers have JSON as text."""
    if isinstance(value, str):
        text = value.encode()
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            return orjson.dumps(value)
        return text
    return orjson.dumps(value)


def _arrays(field: FieldSchema, rows: Sequence[Any]) -> Any:
    for position, row in enumerate(rows):
        if not isinstance(row, list) or None in row:
            raise Unfit(position, f"Array of {field.element_type.milvus_name}", row)
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    try:
        elements = _scalars(field.element_type, list(chain.from_iterable(rows)))
    except Unfit as unfit:
        position = int(np.searchsorted(offsets, unfit.position, side="right")) - 1
        raise Unfit(position, f"Array of {unfit.expected}", unfit.actual) from unfit
    return pa.ListArray.from_arrays(pa.array(offsets), elements, type=arrow_type(field))
