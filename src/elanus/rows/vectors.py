"""Vectors in JSON, by the rules of the RESTful API.

Dense vectors of floating point are arrays of numbers, those of 16 bits also base64 of their bytes;
binary and int8 vectors arrays of byte values or base64; sparse vectors objects: value by index, or
``{"indices": […], "values": […]}``. In answers everything but FloatVector and sparse is base64.
"""

import base64
import binascii
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.model.types import DataType
from elanus.model.vectors import (
    ELEMENT_DTYPES,
    MAX_SPARSE_INDEX,
    SparseRows,
    narrowed,
    sparse_column,
)
from elanus.rows.unfit import Unfit

_BYTE_TYPES = (DataType.BINARY_VECTOR, DataType.INT8_VECTOR)
_INDICES, _VALUES = "indices", "values"


def vectors_of_json(data_type: DataType, rows: Sequence[Any]) -> Any:
    """``rows``, JSON values, as NumPy (rows, width) of the type's elements, all of the width of
    the first; of a sparse type as an Arrow array. Raises Unfit."""
    if data_type is DataType.SPARSE_FLOAT_VECTOR:
        return _sparse(rows)
    if data_type is DataType.FLOAT_VECTOR or not any(isinstance(row, str) for row in rows):
        return _numbers(data_type, rows)
    dtype = ELEMENT_DTYPES[data_type]
    decoded = [_elements(data_type, row, number) for number, row in enumerate(rows)]
    for number, row in enumerate(decoded):
        if len(row) != len(decoded[0]):
            size = len(decoded[0]) * dtype.itemsize
            raise Unfit(number, f"{size} bytes, as the first vector", f"{row.nbytes} bytes")
    return np.stack(decoded)


def json_of_vectors(data_type: DataType, values: Any) -> list[Any]:
    """The JSON values of decoded vectors (see ``wire.vectors.decode_vectors``)."""
    if data_type is DataType.FLOAT_VECTOR:
        return list(values)
    if data_type is DataType.SPARSE_FLOAT_VECTOR:
        rows = SparseRows.of(values)
        return [
            dict(zip(map(str, indices.tolist()), weights, strict=True))
            for indices, weights in map(rows.row, range(len(rows)))
        ]
    return [base64.b64encode(row.tobytes()).decode() for row in values]


def _elements(data_type: DataType, row: Any, number: int) -> npt.NDArray[Any]:
    if not isinstance(row, str):
        found: npt.NDArray[Any] = _numbers(data_type, [row], number)[0]
        return found
    try:
        data = base64.b64decode(row, validate=True)
        return np.frombuffer(data, ELEMENT_DTYPES[data_type])
    except (binascii.Error, ValueError) as error:
        raise Unfit(number, data_type.milvus_name, row) from error


def _numbers(data_type: DataType, rows: Sequence[Any], first: int = 0) -> npt.NDArray[Any]:
    """Arrays of numbers, all of one length. ``first``: the position of the first row."""
    name = data_type.milvus_name
    kinds = {int} if data_type in _BYTE_TYPES else {int, float}
    for position, row in enumerate(rows):
        if not isinstance(row, list):
            raise Unfit(first + position, name, row)
    if not set(map(type, chain.from_iterable(rows))) <= kinds:
        position = next(n for n, row in enumerate(rows) if not set(map(type, row)) <= kinds)
        raise Unfit(first + position, name, rows[position])
    width = len(rows[0]) if rows else 0
    for position, row in enumerate(rows):
        if len(row) != width:
            expected = f"{width} numbers, as the first vector"
            raise Unfit(first + position, expected, f"{len(row)} numbers")
    shape = (len(rows), width)
    if data_type not in _BYTE_TYPES:
        with np.errstate(over="ignore"):  # what becomes infinite is refused by the core
            floats = np.array(rows, np.float32).reshape(shape)
        return floats if data_type is DataType.FLOAT_VECTOR else narrowed(floats, data_type)
    bounds = np.iinfo(ELEMENT_DTYPES[data_type])
    for position, row in enumerate(rows):
        if row and not bounds.min <= min(row) <= max(row) <= bounds.max:
            raise Unfit(first + position, f"numbers of [{bounds.min}, {bounds.max}]", row)
    return np.array(rows, ELEMENT_DTYPES[data_type]).reshape(shape)


def _sparse(rows: Sequence[Any]) -> Any:
    """Indices come out ascending."""
    parts = [_entries(row, number) for number, row in enumerate(rows)]
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(indices) for indices, _ in parts], out=offsets[1:])
    indices = np.array(list(chain.from_iterable(part[0] for part in parts)), np.uint32)
    with np.errstate(over="ignore"):
        values = np.array(list(chain.from_iterable(part[1] for part in parts)), np.float32)
    return sparse_column(offsets, indices, values)


def _entries(row: Any, number: int) -> tuple[list[int], list[float]]:
    name = DataType.SPARSE_FLOAT_VECTOR.milvus_name
    if not isinstance(row, dict):
        raise Unfit(number, name, row)
    if set(row) == {_INDICES, _VALUES}:
        pairs = (row[_INDICES], row[_VALUES])
        if not all(isinstance(part, list) for part in pairs) or len(pairs[0]) != len(pairs[1]):
            raise Unfit(number, f"{name} with as many indices as values", row)
    else:
        pairs = (list(row), list(row.values()))
    try:
        indices = [int(index) for index in pairs[0]]
    except (ValueError, TypeError) as error:
        raise Unfit(number, name, row) from error
    if not all(0 <= index <= MAX_SPARSE_INDEX for index in indices):
        raise Unfit(number, f"{name} with indices of [0, {MAX_SPARSE_INDEX}]", row)
    if not set(map(type, pairs[1])) <= {int, float}:
        raise Unfit(number, name, row)
    order = sorted(range(len(indices)), key=indices.__getitem__)
    return [indices[at] for at in order], [pairs[1][at] for at in order]
