"""The query vectors of a search: PlaceholderGroup, which travels inside a bytes field.

Each query is one value: the little-endian elements of a vector, or the text to search for.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from elanus.errors import InvalidParameter
from elanus.wire.protocol import common, parse

TAG = "$0"


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


def decode_vectors(data: bytes, field_name: str, dim: int) -> npt.NDArray[np.float32]:
    """The query vectors for a FloatVector field of dimension ``dim``: float32 (nq, dim),
    C-contiguous.

    Raises InvalidParameter for queries of another type, another dimension, or with a value that
    is not finite.
    """
    queries = decode_placeholders(data)
    if queries.type is not PlaceholderType.FLOAT_VECTOR:
        raise InvalidParameter(
            f"vector type must be the same, field {field_name} - type VECTOR_FLOAT, "
            f"search info type {queries.type.milvus_name}"
        )
    size = dim * 4
    for value in queries.values:
        if len(value) != size:
            raise InvalidParameter(
                f"vector dimension mismatch, expected vector size(byte) {size}, "
                f"actual {len(value)}."
            )
    vectors = np.frombuffer(b"".join(queries.values), "<f4").reshape(queries.nq, dim)
    finite = np.isfinite(vectors)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidParameter(
            f"value '{_go_text(vectors[row, column])}' is not a number or infinity"
        )
    return vectors


def encode_vectors(vectors: npt.NDArray[np.float32]) -> bytes:
    """A serialized PlaceholderGroup of float32 (nq, dim) vectors."""
    rows = np.ascontiguousarray(vectors, "<f4")
    return _group(PlaceholderType.FLOAT_VECTOR, [row.tobytes() for row in rows])


def encode_texts(texts: list[str]) -> bytes:
    """A serialized PlaceholderGroup of texts to search for."""
    return _group(PlaceholderType.VARCHAR, [text.encode() for text in texts])


def _group(kind: PlaceholderType, values: list[bytes]) -> bytes:
    placeholder = common.PlaceholderValue(tag=TAG, type=int(kind), values=values)
    data: bytes = common.PlaceholderGroup(placeholders=[placeholder]).SerializeToString()
    return data


def _go_text(value: np.float32) -> str:
    """How Milvus prints a value that is not finite."""
    if np.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"
