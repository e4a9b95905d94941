"""Arrays of structs in JSON as columns of the protocol: an array of objects, each with a value for
every field of the struct, or null."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from elanus.model.schema import CollectionSchema, FieldSchema, arrow_type
from elanus.model.types import DataType
from elanus.model.vectors import list_column
from elanus.rows.unfit import Unfit
from elanus.rows.values import arrow_column
from elanus.wire.columns import encode_column
from elanus.wire.lists import struct_message
from elanus.wire.protocol import pack


def struct_column(schema: CollectionSchema, name: str, values: Sequence[Any]) -> Any:
    """The schema.FieldData message of one array of objects, or None, for each row. Raises Unfit."""
    parts = schema.parts_of[name]
    wanted = {part.local_name for part in parts}
    expected = f"array of objects with {', '.join(sorted(wanted))}"
    for position, value in enumerate(values):
        if value is None:
            continue
        if not isinstance(value, list) or not all(
            isinstance(each, dict) and each.keys() == wanted for each in value
        ):
            raise Unfit(position, expected, value)
    rows = [row for row, value in enumerate(values) if value is not None]
    present = [values[row] for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in present])])
    try:
        messages = [_part(part, present, offsets) for part in parts]
    except Unfit as unfit:
        raise Unfit(rows[unfit.position], unfit.expected, unfit.actual) from unfit
    if len(rows) < len(values):
        valid = np.zeros(len(values), np.bool_)
        valid[rows] = True
        for message in messages:
            message.valid_data.extend(pack(valid, "?"))
    return struct_message(name, 0, messages)


def _part(part: FieldSchema, values: Sequence[Any], offsets: Any) -> Any:
    """The column of a field of rows that are not null, without a mark that they aren't."""
    part = msgspec.structs.replace(part, nullable=False)
    rows = [[each[part.local_name] for each in value] for value in values]
    if part.data_type is not DataType.ARRAY_OF_VECTOR:
        return encode_column(part, arrow_column(part, rows))
    elements = list(chain.from_iterable(rows))
    if not elements:
        return encode_column(part, pa.array(rows, arrow_type(part)))
    try:
        vectors = arrow_column(part.of_elements, elements)
    except Unfit as unfit:
        position = int(np.searchsorted(offsets, unfit.position, side="right")) - 1
        raise Unfit(position, f"list of {unfit.expected}", unfit.actual) from unfit
    return encode_column(part, list_column(offsets, vectors))
