"""The query vectors of a search: PlaceholderGroup, which travels inside a bytes field.

Each query is one value: the little-endian elements of a vector, or of all vectors of a list, or
the text to search for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.errors import InvalidParameter
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType
from elanus.model.vectors import ELEMENT_DTYPES, list_column, narrowed, vector_width, widened
from elanus.wire.protocol import common, parse
from elanus.wire.vectors import VECTOR_HOLDERS, check_finite, decode_sparse, encode_sparse

TAG = "$0"
KEPT_HEADS = 256


class PlaceholderType(IntEnum):
    """What the values of a group are, with Milvus's codes."""

    NONE = 0
    INT64 = 5
    VARCHAR = 21
    BINARY_VECTOR = 100
    FLOAT_VECTOR = 101
    FLOAT16_VECTOR = 102
    BFLOAT16_VECTOR = 103
    SPARSE_FLOAT_VECTOR = 104
    INT8_VECTOR = 105
    EMB_LIST_BINARY_VECTOR = 300
    EMB_LIST_FLOAT_VECTOR = 301
    EMB_LIST_FLOAT16_VECTOR = 302
    EMB_LIST_BFLOAT16_VECTOR = 303
    EMB_LIST_SPARSE_FLOAT_VECTOR = 304
    EMB_LIST_INT8_VECTOR = 305

    @property
    def milvus_name(self) -> str:
        """The name in Milvus's messages, for example ``VECTOR_FLOAT``."""
        return _MILVUS_NAMES.get(self, self.name)


_MILVUS_NAMES = {
    PlaceholderType.INT64: "INT64",
    PlaceholderType.VARCHAR: "VARCHAR",
    PlaceholderType.BINARY_VECTOR: "VECTOR_BINARY",
    PlaceholderType.FLOAT_VECTOR: "VECTOR_FLOAT",
    PlaceholderType.FLOAT16_VECTOR: "VECTOR_FLOAT16",
    PlaceholderType.BFLOAT16_VECTOR: "VECTOR_BFLOAT16",
    PlaceholderType.SPARSE_FLOAT_VECTOR: "VECTOR_SPARSE_U32_F32",
    PlaceholderType.INT8_VECTOR: "VECTOR_INT8",
}
_VECTOR_TYPES = {PlaceholderType(int(data_type)): data_type for data_type in VECTOR_HOLDERS}
_LIST_OFFSET = 200
"""Between the code of a type of vectors and that of lists of them."""
_LIST_TYPES = {
    PlaceholderType(int(data_type) + _LIST_OFFSET): data_type for data_type in ELEMENT_DTYPES
}
_FROM_FLOATS = (DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR)

_ONE = np.ones(1, np.int64)
_ONE.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Placeholders:
    """The queries of one search.

    values: one for each query, as sent (text is UTF-8).
    """

    type: PlaceholderType
    values: list[bytes]

    @property
    def nq(self) -> int:
        return len(self.values)

    def texts(self) -> list[str]:
        """The queries of a text search. Raises InvalidParameter for what is not UTF-8."""
        try:
            return [value.decode() for value in self.values]
        except UnicodeDecodeError as error:
            raise InvalidParameter("the text to search for is not valid UTF-8") from error


def decode_placeholders(data: bytes) -> Placeholders:
    """The queries of a serialized PlaceholderGroup; InvalidParameter if it holds none."""
    group = parse(common.PlaceholderGroup, data, "the placeholder group")
    if not group.placeholders:
        raise InvalidParameter("placeholder group is empty: no query vectors were sent")
    placeholder = group.placeholders[0]
    try:
        kind = PlaceholderType(placeholder.type)
    except ValueError:
        raise InvalidParameter(f"placeholder type {placeholder.type} is not valid") from None
    return Placeholders(kind, list(placeholder.values))


def decode_queries(data: bytes, field: FieldSchema) -> Any:
    """The query vectors for a vector field, as ``VectorQuery.vectors`` has them.

    Vectors of float32 also serve Float16Vector and BFloat16Vector fields; they are rounded to what
    such a field can hold. Raises InvalidParameter for queries of another type, another dimension,
    or with a value that can't be in such a field.
    """
    if field.data_type is DataType.FLOAT_VECTOR:
        vector = _only_vector(data, field.dim)
        if vector is not None:
            return vector
    queries = decode_placeholders(data)
    is_list = field.data_type is DataType.ARRAY_OF_VECTOR
    vectors = field.of_elements if is_list else field
    sent = (_LIST_TYPES if is_list else _VECTOR_TYPES).get(queries.type)
    is_float = sent is DataType.FLOAT_VECTOR and vectors.data_type in _FROM_FLOATS
    if sent is None or not (sent is vectors.data_type or is_float):
        expected = PlaceholderType(int(vectors.data_type) + (_LIST_OFFSET if is_list else 0))
        raise InvalidParameter(
            f"vector type must be the same, field {field.name} - type {expected.milvus_name}, "
            f"search info type {queries.type.milvus_name}"
        )
    if sent is DataType.SPARSE_FLOAT_VECTOR:
        return decode_sparse(queries.values)
    counts = _counts(queries, sent, field.dim, is_list=is_list)
    elements = np.frombuffer(b"".join(queries.values), ELEMENT_DTYPES[sent])
    found = elements.reshape(-1, vector_width(sent, field.dim))
    if sent is not DataType.BINARY_VECTOR:
        found = widened(found)
        if is_float:
            found = widened(narrowed(found, vectors.data_type))
        check_finite(found)
    return list_column(np.concatenate([[0], np.cumsum(counts)]), found) if is_list else found


def _only_vector(data: bytes, dim: int) -> npt.NDArray[np.float32] | None:
    """The vector of a search by one of float32, as all clients write that; None of another."""
    head = _head_of_one(dim)
    if len(data) != len(head) + 4 * dim or not data.startswith(head):
        return None
    vector = np.frombuffer(data[len(head) :], "<f4")
    check_finite(vector)
    return vector[None]


@lru_cache(maxsize=KEPT_HEADS)
def _head_of_one(dim: int) -> bytes:
    """What stands before the elements of the only vector."""
    size = 4 * dim
    return _group(PlaceholderType.FLOAT_VECTOR, [bytes(size)])[:-size]


def _counts(
    queries: Placeholders, data_type: DataType, dim: int, *, is_list: bool
) -> npt.NDArray[np.int64]:
    """int64 (nq,): how many vectors each query has. Raises InvalidParameter if not one (in a list:
    at least one)."""
    size = vector_width(data_type, dim) * ELEMENT_DTYPES[data_type].itemsize
    if queries.nq == 1 and len(queries.values[0]) == size:
        return _ONE
    sizes = np.fromiter(map(len, queries.values), np.int64, queries.nq)
    wrong = (sizes % size != 0) | (sizes == 0) if is_list else sizes != size
    if wrong.any():
        raise InvalidParameter(
            f"vector dimension mismatch, expected vector size(byte) {size}, "
            f"actual {sizes[wrong][0]}."
        )
    return sizes // size


def encode_vectors(vectors: npt.NDArray[np.float32]) -> bytes:
    """A serialized PlaceholderGroup of float32 (nq, dim) vectors."""
    return encode_queries(DataType.FLOAT_VECTOR, np.ascontiguousarray(vectors, "<f4"))


def encode_queries(data_type: DataType, vectors: Any) -> bytes:
    """A serialized PlaceholderGroup of vectors of a type: NumPy (nq, width) of its elements, or an
    Arrow array of sparse vectors."""
    if data_type is DataType.SPARSE_FLOAT_VECTOR:
        values = encode_sparse(vectors)[0]
    else:
        values = [row.tobytes() for row in vectors]
    return _group(PlaceholderType(int(data_type)), values)


def encode_lists(data_type: DataType, lists: Sequence[npt.NDArray[Any]]) -> bytes:
    """A serialized PlaceholderGroup of lists of vectors of a type, each (m, width)."""
    kind = PlaceholderType(int(data_type) + _LIST_OFFSET)
    return _group(kind, [vectors.tobytes() for vectors in lists])


def encode_texts(texts: list[str]) -> bytes:
    """A serialized PlaceholderGroup of texts to search for."""
    return _group(PlaceholderType.VARCHAR, [text.encode() for text in texts])


def _group(kind: PlaceholderType, values: list[bytes]) -> bytes:
    placeholder = common.PlaceholderValue(tag=TAG, type=int(kind), values=values)
    data: bytes = common.PlaceholderGroup(placeholders=[placeholder]).SerializeToString()
    return data
