"""Which index a request asks for: AUTOINDEX resolved, defaults filled in, ranges checked.

The texts are Milvus's. What a kind of fields can have stands in
:mod:`elanus.access.ddl.vector_kinds`, ``list_indexes`` and ``scalar_kinds`` beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from elanus.access.ddl import scalar_kinds, vector_kinds
from elanus.access.ddl.dense_indexes import (
    DENSE_INDEX_TYPES,
    UNSERVED_TYPES,
    check_nlist,
    dense_index,
    dense_metric,
)
from elanus.access.ddl.list_indexes import list_index
from elanus.errors import (
    InvalidParameter,
    ParameterTooLarge,
    Rejected,
    Unimplemented,
)
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, MetricType

AUTOINDEX = "AUTOINDEX"
SCANN = "SCANN"
AUTO_SCANN = (SCANN, {"nlist": "1024", "nprobe": "256", "sub_dim": "2"})
AUTO_HNSW = ("HNSW", {"M": "18", "efConstruction": "240"})
"""What AUTOINDEX of a dense field stands for: with SCANN's kernel, and without it."""
AUTO_METRIC = MetricType.COSINE
MAX_PARAMS_BYTES = 102_400

_META_KEYS = frozenset({"index_type", "metric_type", "mmap.enabled", "warmup", "dim"})
_DENSE_TYPES = frozenset(DENSE_INDEX_TYPES) | UNSERVED_TYPES
_OTHER_TYPES = vector_kinds.BINARY_TYPES | vector_kinds.SPARSE_TYPES | {"MINHASH_LSH"}


@dataclass(frozen=True, slots=True)
class ResolvedIndex:
    """``params`` are complete and only what the index uses; ``metric`` is None for a scalar."""

    index_type: str
    metric: MetricType | None
    params: dict[str, str]
    is_auto: bool = False


def resolve_index(field: FieldSchema, given: Mapping[str, str]) -> ResolvedIndex:
    """``given``: the request's parameters, those of the ``params`` object among them.

    Raises InvalidParameter, MissingParameter or Rejected with Milvus's texts, and Unimplemented
    for index types that are not served yet.
    """
    if sum(len(key) + len(value) for key, value in given.items()) > MAX_PARAMS_BYTES:
        raise ParameterTooLarge(
            f"the index parameters of field {field.name} have more than {MAX_PARAMS_BYTES} bytes: "
            "parameter too large"
        )
    check_mmap(given)
    others = sorted(set(given) - _META_KEYS - {"json_path", "json_cast_type", "json_cast_function"})
    index_type = given.get("index_type", "")
    if not index_type and others:
        raise InvalidParameter(f"IndexType not specified, field = {field.name}")
    is_auto = index_type in ("", AUTOINDEX)
    if is_auto and others:
        raise InvalidParameter(
            f"only metric type can be passed when use AutoIndex, but got {', '.join(others)}"
        )
    if field.data_type.is_vector:
        return _resolve_vector(field, given, index_type, is_auto)
    return _resolve_scalar(field, given, index_type, is_auto)


def check_mmap(given: Mapping[str, str]) -> None:
    """``mmap.enabled`` is true or false; Python clients write True and False."""
    value = given.get("mmap.enabled")
    if value is not None and value.lower() not in ("true", "false"):
        raise InvalidParameter(f"invalid mmap.enabled value: {value}, expected: true, false")


_invalid = vector_kinds.invalid


def _unknown_type(index_type: str) -> InvalidParameter:
    return InvalidParameter(
        f"invalid index type: {index_type}",
        expected="valid index",
        actual=f"invalid index type: {index_type}",
    )


def _resolve_vector(
    field: FieldSchema, given: Mapping[str, str], index_type: str, is_auto: bool
) -> ResolvedIndex:
    if field.data_type is DataType.ARRAY_OF_VECTOR:
        if not is_auto and index_type not in _DENSE_TYPES | _OTHER_TYPES:
            raise _unknown_type(index_type)
        return ResolvedIndex(*list_index(field, None if is_auto else index_type, given), is_auto)
    if not field.data_type.is_dense_vector:
        return _resolve_other(field, given, index_type, is_auto)
    metric = given.get("metric_type", "")
    if is_auto:
        chosen = dense_metric(field.data_type, metric) if metric else AUTO_METRIC
        auto_type, auto_params = AUTO_SCANN if _has_scann() else AUTO_HNSW
        return ResolvedIndex(auto_type, chosen, dict(auto_params), is_auto=True)
    if index_type in _OTHER_TYPES:
        raise vector_kinds.refused_type(field.data_type, index_type)
    if index_type not in _DENSE_TYPES:
        raise _unknown_type(index_type)
    chosen, params = dense_index(field, index_type, given)
    if index_type == SCANN and not _has_scann():
        raise Unimplemented(
            f"the index type SCANN of field {field.name} needs the library scann-core, which there "
            "is for Linux on x86-64 only: HNSW and IVF_PQ can be had here"
        )
    return ResolvedIndex(index_type, chosen, params)


@cache
def _has_scann() -> bool:
    return find_spec("scann") is not None


def _resolve_other(
    field: FieldSchema, given: Mapping[str, str], index_type: str, is_auto: bool
) -> ResolvedIndex:
    """Of a binary or sparse field."""
    is_binary = field.data_type is DataType.BINARY_VECTOR
    own = vector_kinds.BINARY_TYPES if is_binary else vector_kinds.SPARSE_TYPES
    auto_type, auto_metric, auto_params = vector_kinds.AUTO_TYPES[field.data_type]
    name = auto_type if is_auto else index_type
    if name not in own:
        if name in _DENSE_TYPES | _OTHER_TYPES:
            raise vector_kinds.refused_type(field.data_type, name)
        raise _unknown_type(name)
    if field.is_function_output:
        auto_metric = MetricType.BM25
    metric = given.get("metric_type", "") or (auto_metric if is_auto else "")
    if not metric:
        raise _invalid(f"metric type not set for vector index, field = {field.name}")
    if is_binary:
        chosen = vector_kinds.binary_metric(name, metric)
        params = dict(auto_params) if is_auto else _lists(field, name, given)
    else:
        chosen = vector_kinds.sparse_metric(metric, field)
        params = dict(auto_params) if is_auto else vector_kinds.sparse_params(name, given)
        if chosen is MetricType.BM25:
            params |= vector_kinds.bm25_params(given)
    return ResolvedIndex(name, chosen, params, is_auto=is_auto)


def _lists(field: FieldSchema, index_type: str, given: Mapping[str, str]) -> dict[str, str]:
    params: dict[str, str] = {}
    if index_type == "BIN_IVF_FLAT":
        check_nlist(field, given, params)
    return params


def _resolve_scalar(
    field: FieldSchema, given: Mapping[str, str], index_type: str, is_auto: bool
) -> ResolvedIndex:
    if index_type in _DENSE_TYPES | _OTHER_TYPES:
        raise _invalid(f"index {index_type} only supports vector data type")
    auto = scalar_kinds.AUTO_TYPES.get(field.data_type, "HYBRID")
    name = auto if is_auto else scalar_kinds.TYPES.get(index_type)
    if name is None:
        raise _unknown_type(index_type)
    if not is_auto:
        scalar_kinds.check_applicability(name, field)
    params = scalar_kinds.build_params(name, field, given)
    return ResolvedIndex(name, None, params, is_auto=is_auto)


def check_alteration(index_type: str, properties: Mapping[str, str]) -> None:
    """What AlterIndex may set depends on the index's type. Raises InvalidParameter or Rejected."""
    check_mmap(properties)
    if "mmap.enabled" in properties and index_type in ("STL_SORT", "RTREE"):
        raise InvalidParameter(f"index type {index_type} does not support mmap")
    offsets = properties.get("indexoffsetcache.enabled")
    if offsets is not None and (index_type != "BITMAP" or offsets.lower() not in ("true", "false")):
        raise InvalidParameter(
            f"invalid offset cache index params: indexoffsetcache.enabled={offsets} "
            f"for an index of type {index_type}"
        )
    warmup = properties.get("warmup")
    if warmup is not None and warmup not in ("disable", "sync"):
        raise Rejected(f"invalid warmup policy: {warmup}, must be 'disable' or 'sync'")
