"""Which classes serve a vector field, by the type of its vectors."""

from typing import Any

import numpy as np

from elanus.engine.index.base import VectorColumn
from elanus.engine.index.binary.column import BinaryColumn
from elanus.engine.index.binary.exact import BinaryBlock
from elanus.engine.index.codes import Codes
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.lists.column import VectorListColumn
from elanus.engine.index.sparse.column import SparseColumn
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType
from elanus.model.vectors import VectorLists, vectors_of

SPARSE_ROW_BYTES = 1_024
"""Of an interim index, for a row of a usual number of values."""
_WITHOUT_INTERIM = (DataType.BINARY_VECTOR, DataType.ARRAY_OF_VECTOR)


def stored_column(field: FieldSchema, stored: Any) -> VectorColumn:
    """A sealed segment's column of a vector field. ``stored``: a NumPy array (rows, width) or an
    Arrow array of the field's type, mapped or not; it is not copied."""
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR:
        return SparseColumn([stored])
    if field.data_type is DataType.ARRAY_OF_VECTOR:
        return _stored_lists(field, stored)
    valid = None
    if not isinstance(stored, np.ndarray):
        if stored.null_count:
            valid = stored.is_valid().to_numpy(zero_copy_only=False)
        stored = vectors_of(stored)
    return _stored_vectors(field, np.asarray(stored), valid)


def _stored_lists(field: FieldSchema, stored: Any) -> VectorColumn:
    lists = VectorLists.of(stored)
    holds = np.diff(lists.offsets) > 0
    elements = _stored_vectors(field.of_elements, lists.vectors, None)
    present = np.asarray(stored.is_valid()) if stored.null_count else None
    return VectorListColumn(lists.offsets, elements, None if holds.all() else holds, present)


def _stored_vectors(field: FieldSchema, vectors: Any, valid: Any) -> DenseColumn | BinaryColumn:
    if field.data_type is DataType.BINARY_VECTOR:
        return BinaryColumn([BinaryBlock(0, vectors)], field.dim, valid)
    return DenseColumn([VectorBlock(0, vectors)], field.dim, valid)


def interim_bytes_per_row(field: FieldSchema) -> int:
    """Memory of a row of the field in an interim index, about."""
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR:
        return SPARSE_ROW_BYTES
    if field.data_type in _WITHOUT_INTERIM:
        return 0
    return Codes.bytes_per_row(field.dim)
