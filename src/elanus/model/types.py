"""Data types, metrics, consistency levels and states, with the codes of Milvus's protocol."""

from enum import IntEnum, StrEnum
from functools import cached_property


class DataType(IntEnum):
    """Field types by their code in Milvus's schema.proto."""

    NONE = 0
    BOOL = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    FLOAT = 10
    DOUBLE = 11
    STRING = 20
    VARCHAR = 21
    ARRAY = 22
    JSON = 23
    GEOMETRY = 24
    TEXT = 25
    TIMESTAMPTZ = 26
    BINARY_VECTOR = 100
    FLOAT_VECTOR = 101
    FLOAT16_VECTOR = 102
    BFLOAT16_VECTOR = 103
    SPARSE_FLOAT_VECTOR = 104
    INT8_VECTOR = 105
    ARRAY_OF_VECTOR = 106
    ARRAY_OF_STRUCT = 200
    STRUCT = 201

    @property
    def milvus_name(self) -> str:
        """The name that Milvus prints, for example ``Int64`` or ``FloatVector``."""
        return _MILVUS_NAMES[self]

    @property
    def is_vector(self) -> bool:
        return 100 <= self < 200

    @property
    def is_dense_vector(self) -> bool:
        """Whether it is a vector of ``dim`` numbers (of bits, it is binary)."""
        return self.is_vector and self not in (
            DataType.BINARY_VECTOR,
            DataType.SPARSE_FLOAT_VECTOR,
            DataType.ARRAY_OF_VECTOR,
        )

    @property
    def is_integer(self) -> bool:
        return DataType.INT8 <= self <= DataType.INT64

    @property
    def is_floating(self) -> bool:
        return self in (DataType.FLOAT, DataType.DOUBLE)

    @property
    def is_numeric(self) -> bool:
        return self.is_integer or self.is_floating


_MILVUS_NAMES = {
    DataType.NONE: "None",
    DataType.BOOL: "Bool",
    DataType.INT8: "Int8",
    DataType.INT16: "Int16",
    DataType.INT32: "Int32",
    DataType.INT64: "Int64",
    DataType.FLOAT: "Float",
    DataType.DOUBLE: "Double",
    DataType.STRING: "String",
    DataType.VARCHAR: "VarChar",
    DataType.ARRAY: "Array",
    DataType.JSON: "JSON",
    DataType.GEOMETRY: "Geometry",
    DataType.TEXT: "Text",
    DataType.TIMESTAMPTZ: "Timestamptz",
    DataType.BINARY_VECTOR: "BinaryVector",
    DataType.FLOAT_VECTOR: "FloatVector",
    DataType.FLOAT16_VECTOR: "Float16Vector",
    DataType.BFLOAT16_VECTOR: "BFloat16Vector",
    DataType.SPARSE_FLOAT_VECTOR: "SparseFloatVector",
    DataType.INT8_VECTOR: "Int8Vector",
    DataType.ARRAY_OF_VECTOR: "ArrayOfVector",
    DataType.ARRAY_OF_STRUCT: "ArrayOfStruct",
    DataType.STRUCT: "Struct",
}


class MetricType(StrEnum):
    L2 = "L2"
    IP = "IP"
    COSINE = "COSINE"
    HAMMING = "HAMMING"
    JACCARD = "JACCARD"
    SUBSTRUCTURE = "SUBSTRUCTURE"
    SUPERSTRUCTURE = "SUPERSTRUCTURE"
    BM25 = "BM25"
    MAX_SIM = "MAX_SIM"
    MAX_SIM_COSINE = "MAX_SIM_COSINE"
    MAX_SIM_IP = "MAX_SIM_IP"
    MAX_SIM_L2 = "MAX_SIM_L2"
    MAX_SIM_HAMMING = "MAX_SIM_HAMMING"
    MAX_SIM_JACCARD = "MAX_SIM_JACCARD"

    @cached_property
    def larger_is_better(self) -> bool:
        return self.of_vectors in (MetricType.IP, MetricType.COSINE, MetricType.BM25)

    @property
    def is_of_lists(self) -> bool:
        """Whether it compares lists of vectors."""
        return self in _METRICS_OF_LISTS

    @property
    def of_vectors(self) -> "MetricType":
        """The metric of two vectors: of one between lists, that which it adds up."""
        return _METRICS_OF_LISTS.get(self, self)


_METRICS_OF_LISTS = {
    MetricType.MAX_SIM: MetricType.COSINE,
    MetricType.MAX_SIM_COSINE: MetricType.COSINE,
    MetricType.MAX_SIM_IP: MetricType.IP,
    MetricType.MAX_SIM_L2: MetricType.L2,
    MetricType.MAX_SIM_HAMMING: MetricType.HAMMING,
    MetricType.MAX_SIM_JACCARD: MetricType.JACCARD,
}
DENSE_METRICS = (MetricType.L2, MetricType.IP, MetricType.COSINE)
BINARY_METRICS = (
    MetricType.HAMMING,
    MetricType.JACCARD,
    MetricType.SUBSTRUCTURE,
    MetricType.SUPERSTRUCTURE,
)
SPARSE_METRICS = (MetricType.IP, MetricType.BM25)
DENSE_LIST_METRICS = (
    MetricType.MAX_SIM,
    MetricType.MAX_SIM_COSINE,
    MetricType.MAX_SIM_IP,
    MetricType.MAX_SIM_L2,
)
BINARY_LIST_METRICS = (MetricType.MAX_SIM_HAMMING, MetricType.MAX_SIM_JACCARD)


class FunctionType(IntEnum):
    """Functions of a schema, with Milvus's codes."""

    BM25 = 1


class ConsistencyLevel(IntEnum):
    STRONG = 0
    SESSION = 1
    BOUNDED = 2
    EVENTUALLY = 3
    CUSTOMIZED = 4


class SegmentState(IntEnum):
    """Life cycle of a segment, with Milvus's codes."""

    GROWING = 2
    SEALED = 3
    FLUSHED = 4
    DROPPED = 6
    IMPORTING = 7


class SegmentLevel(IntEnum):
    L0 = 1
    L1 = 2


class IndexState(IntEnum):
    NONE = 0
    UNISSUED = 1
    IN_PROGRESS = 2
    FINISHED = 3
    FAILED = 4


class LoadState(IntEnum):
    NOT_EXIST = 0
    NOT_LOAD = 1
    LOADING = 2
    LOADED = 3
