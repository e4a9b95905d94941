"""Lists of vectors and arrays of structs between Milvus's messages and Arrow.

A struct array travels as one FieldData with a column for each field of the struct; here these are
columns of their own, named as :mod:`elanus.model.schema` names them. A list of vectors travels as
one VectorField for each row, its vectors one after another.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.errors import InvalidParameter
from elanus.model.schema import FieldSchema, struct_field_name
from elanus.model.types import DataType
from elanus.model.vectors import ELEMENT_DTYPES, VectorLists, list_column, vector_width
from elanus.wire.protocol import pack, packed_rows, schema
from elanus.wire.vectors import TYPE_OF_HOLDER, VECTOR_HOLDERS, undivided

LIST_HOLDER = "vector_array"
"""The oneof member of VectorField in which lists of vectors travel."""
STRUCT_HOLDER = "struct_arrays"


def decode_lists(lists: Any, name: str) -> tuple[str, Any]:
    """The holder of the vectors, and an Arrow array of their lists, of a schema.VectorArray
    message. Of lists without any vector the holder is empty and the array of lists of nulls.

    Raises InvalidParameter for data that doesn't divide into vectors, and for rows of several
    kinds or dimensions.
    """
    holders = [row.WhichOneof("data") for row in lists.data]
    holder = next(filter(None, holders), "")
    if not holder:
        return "", pa.array([[]] * len(holders), pa.list_(pa.null()))
    data_type = TYPE_OF_HOLDER.get(holder)
    if data_type is None or data_type not in ELEMENT_DTYPES:
        raise InvalidParameter(f"element type {holder} of the arrays of field {name} is not valid")
    dim = _dim(lists, holders, name)
    for number, found in enumerate(holders):
        if found not in (holder, None):
            raise InvalidParameter(
                f"vector array {number} of field {name} has vectors of another type",
                expected=holder,
                actual=found,
            )
    values, lengths = _joined(lists, data_type, holder)
    if data_type is DataType.BINARY_VECTOR and dim % 8:
        raise undivided(data_type, int(lengths.sum()), dim)
    width = vector_width(data_type, dim)
    uneven = np.flatnonzero(lengths % width)
    if len(uneven):
        raise undivided(data_type, int(lengths[uneven[0]]), dim)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths // width, out=offsets[1:])
    return holder, list_column(offsets, values.reshape(-1, width))


def _dim(lists: Any, holders: Sequence[str | None], name: str) -> int:
    """The dimension that the rows with vectors, or the message itself, declare."""
    declared = {row.dim for row, holder in zip(lists.data, holders, strict=True) if holder}
    found = {dim for dim in declared if dim} or {lists.dim}
    if len(found) > 1:
        shown = ", ".join(map(str, sorted(found)))
        raise InvalidParameter(f"the vectors of field data({name}) have several dims: {shown}")
    dim = int(found.pop())
    if dim <= 0:
        raise InvalidParameter(f"the dim ({dim}) of field data({name}) should be greater than 0")
    return dim


def _joined(
    lists: Any, data_type: DataType, holder: str
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The elements of all rows one after another, and how many each row has."""
    rows = [getattr(row, holder) for row in lists.data]
    if data_type is DataType.FLOAT_VECTOR:
        return packed_rows(lists, rows, "data")
    dtype = ELEMENT_DTYPES[data_type]
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    if (sizes % dtype.itemsize).any():
        raise InvalidParameter(
            f"the data of a {data_type.milvus_name} must be whole {dtype.itemsize}-byte elements"
        )
    return np.frombuffer(b"".join(rows), dtype), sizes // dtype.itemsize


def encode_lists(message: Any, field: FieldSchema, column: Any) -> None:
    """Put an Arrow column of lists of vectors into a schema.VectorField message."""
    lists = VectorLists.of(column)
    data_type, dim = field.element_type, field.dim
    message.dim = dim
    target = message.vector_array
    target.dim = dim
    target.element_type = int(data_type)
    for start, end in pairwise(lists.offsets.tolist()):
        row = target.data.add(dim=dim)
        vectors = lists.vectors[start:end]
        if data_type is DataType.FLOAT_VECTOR:
            row.float_vector.SetInParent()
            row.float_vector.data.extend(pack(vectors.reshape(-1), "<f4"))
        else:
            setattr(row, VECTOR_HOLDERS[data_type], vectors.tobytes())


def flattened(messages: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The columns of schema.FieldData messages with the names of their fields: in place of one of
    structs, those of the structs' fields."""
    for message in messages:
        if message.WhichOneof("field") != STRUCT_HOLDER:
            yield message.field_name, message
            continue
        struct = message.field_name
        for part in message.struct_arrays.fields:
            whole = part.field_name.startswith(f"{struct}[")
            yield part.field_name if whole else struct_field_name(struct, part.field_name), part


def struct_message(name: str, field_id: int, parts: Sequence[Any]) -> Any:
    """A schema.FieldData message of the columns of a struct's fields."""
    message = schema.FieldData(
        type=int(DataType.ARRAY_OF_STRUCT), field_name=name, field_id=field_id
    )
    message.struct_arrays.fields.extend(parts)
    return message
