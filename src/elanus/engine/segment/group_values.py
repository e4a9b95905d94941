"""The values that rows are grouped by: a column as it is, or what stands at a path of documents."""

from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa

from elanus.engine.filter.evaluate_json import MISSING, step
from elanus.errors import CorruptData, Rejected
from elanus.model.reads import Grouping
from elanus.model.schema import SCALAR_ARROW_TYPES
from elanus.model.types import DataType

_INT64 = range(-(2**63), 2**63)
_NATIVE_NAMES = {
    DataType.BOOL: "json value to bool",
    DataType.INT8: "json value to int8_t",
    DataType.INT16: "json value to int16_t",
    DataType.INT32: "json value to int32_t",
    DataType.INT64: "json value to int64_t",
    DataType.VARCHAR: "json string to string",
    None: "json object node to string",
}
"""What could not be cast, in Milvus's words."""


def group_values(column: pa.Array, grouping: Grouping) -> pa.Array:
    """The values of the rows of the field's ``column``. Raises Rejected for a document that has
    none of the type that is asked for, if the grouping is strict about it."""
    if not pa.types.is_binary(column.type):
        return column
    read = _reader(grouping.cast)
    values: list[Any] = []
    for document in column.to_pylist():
        value = None
        if document is not None:
            value = read(_at(document, grouping))
            if value is None and grouping.strict_cast:
                what = _NATIVE_NAMES[grouping.cast]
                raise Rejected(f"failed to cast {what}, wrong json data inner type")
        values.append(value)
    if grouping.cast is None or not grouping.cast.is_integer:
        return pa.array(values, SCALAR_ARROW_TYPES[grouping.cast or DataType.VARCHAR])
    # As in a cast of C: what is too large keeps its lowest bits.
    return pa.array(values, pa.int64()).cast(SCALAR_ARROW_TYPES[grouping.cast], safe=False)


def _at(document: bytes, grouping: Grouping) -> Any:
    """What stands at the path, MISSING if nothing does."""
    try:
        value: Any = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise CorruptData(
            f"field {grouping.field_name} holds text that isn't JSON: {error}"
        ) from error
    for key in grouping.path:
        value = step(value, key)
    return value


def _reader(cast: DataType | None) -> Callable[[Any], Any]:
    """Gives the value that a group has, None for one of another type."""
    match cast:
        case None:
            return _as_text
        case DataType.BOOL:
            return lambda value: value if type(value) is bool else None
        case DataType.VARCHAR:
            return lambda value: value if type(value) is str else None
        case _:
            return lambda value: value if type(value) is int and value in _INT64 else None


def _as_text(value: Any) -> str | None:
    if value is MISSING:
        return None
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
