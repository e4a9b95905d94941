"""Which indexes lists of vectors, the ArrayOfVector fields of structs, can have.

An index over lists is one over their vectors, with the parameters of its type; the metric says how
two lists are compared, or, if it is one of vectors, that these are found one by one.
"""

from collections.abc import Mapping

from elanus.access.ddl.dense_indexes import check_nlist, dense_index
from elanus.access.ddl.vector_kinds import BINARY_TYPES, invalid, refused_type
from elanus.model.schema import FieldSchema
from elanus.model.types import (
    BINARY_LIST_METRICS,
    DENSE_LIST_METRICS,
    DENSE_METRICS,
    DataType,
    MetricType,
)

DENSE_TYPES = frozenset({"FLAT", "HNSW", "HNSW_SQ", "HNSW_PQ", "HNSW_PRQ", "IVF_FLAT", "DISKANN"})
DENSE_LISTS = (*DENSE_LIST_METRICS, *DENSE_METRICS)
BINARY_LISTS = (*BINARY_LIST_METRICS, MetricType.HAMMING, MetricType.JACCARD)
AUTO_TYPES: dict[bool, tuple[str, MetricType, dict[str, str]]] = {
    True: ("BIN_FLAT", MetricType.MAX_SIM_HAMMING, {}),
    False: ("HNSW", MetricType.MAX_SIM_COSINE, {"M": "18", "efConstruction": "240"}),
}
"""What AUTOINDEX stands for, of binary and of dense vectors: (type, default metric, parameters)."""


def list_index(
    field: FieldSchema, index_type: str | None, given: Mapping[str, str]
) -> tuple[str, MetricType, dict[str, str]]:
    """The type (None: AUTOINDEX), metric and complete parameters of an index of lists. Raises
    InvalidParameter with Milvus's texts."""
    is_binary = field.element_type is DataType.BINARY_VECTOR
    auto_type, auto_metric, auto_params = AUTO_TYPES[is_binary]
    name = given.get("metric_type", "") or (auto_metric if index_type is None else "")
    if not name:
        raise invalid(f"metric type not set for vector index, field = {field.name}")
    if name not in (BINARY_LISTS if is_binary else DENSE_LISTS):
        raise invalid(f"array of vector index does not support metric type: {name}")
    metric = MetricType(name)
    if index_type is None:
        return auto_type, metric, dict(auto_params)
    if index_type not in (BINARY_TYPES if is_binary else DENSE_TYPES):
        raise refused_type(field.data_type, index_type)
    vectors = field.of_elements
    params: dict[str, str] = {}
    if not is_binary:
        _, params = dense_index(vectors, index_type, {**given, "metric_type": metric.of_vectors})
    elif index_type == "BIN_IVF_FLAT":
        check_nlist(vectors, given, params)
    return index_type, metric, params
