"""Which index of a dense vector field a request asks for: the types, and for each the vectors and
parameters that it takes. The texts are Milvus's, of its proxy or of knowhere.

Those of other vectors stand in :mod:`elanus.access.ddl.vector_kinds`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from elanus.access.ddl.vector_kinds import invalid, refused_type
from elanus.errors import InvalidParameter, Unimplemented
from elanus.model.schema import FieldSchema
from elanus.model.types import DENSE_METRICS, DataType, MetricType

INT32_MAX = 2**31 - 1
FLOAT = DataType.FLOAT_VECTOR
HALF = (DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR)
INT8 = DataType.INT8_VECTOR

Check = Callable[[FieldSchema, Mapping[str, str], dict[str, str]], None]
"""Of (field, request, parameters): looks at one or fills one in. Raises InvalidParameter."""


def _integer(name: str, low: int, high: int, default: int | None = None) -> Check:
    def check(field: FieldSchema, given: Mapping[str, str], params: dict[str, str]) -> None:
        text = given.get(name, None if default is None else str(default))
        if text is None:
            raise InvalidParameter(f"param '{name}' not exist in json")
        try:
            value = int(text)
        except ValueError:
            raise _not_a("integer", name, text) from None
        if not low <= value <= high:
            raise InvalidParameter(_out_of_range(name, str(value), f"[{low}, {high}]"))
        params[name] = str(value)

    return check


def _truth(name: str, default: bool) -> Check:
    def check(field: FieldSchema, given: Mapping[str, str], params: dict[str, str]) -> None:
        text = given.get(name, str(default)).lower()
        if text not in ("true", "false"):
            raise _not_a("boolean", name, given[name])
        params[name] = text

    return check


def _choice(name: str, choices: tuple[str, ...], default: str, fault: str) -> Check:
    """In any case of letters. ``fault`` may name the value by {}."""

    def check(field: FieldSchema, given: Mapping[str, str], params: dict[str, str]) -> None:
        value = given.get(name, default)
        if value.lower() not in choices:
            raise InvalidParameter(fault.format(value))
        params[name] = value.lower()

    return check


def _refine(*choices: str) -> tuple[Check, ...]:
    listed = f"[{', '.join(choices)}]"
    fault = f"invalid refine type : {{}}, optional types are {listed}"
    return (_truth("refine", False), _choice("refine_type", choices, "flat", fault))


def _no_refine(field: FieldSchema, given: Mapping[str, str], params: dict[str, str]) -> None:
    if given.get("refine", "false").lower() == "true":
        raise InvalidParameter("refine is not supported for this index")


def _subquantizers(field: FieldSchema, given: Mapping[str, str], params: dict[str, str]) -> None:
    if field.dim % int(params["m"]):
        raise InvalidParameter(
            "The dimension of a vector (dim) should be a multiple of the number of subquantizers "
            f"(m). Dimension: {field.dim}, m: {params['m']}"
        )


def _sub_dim(field: FieldSchema, given: Mapping[str, str], params: dict[str, str]) -> None:
    if field.dim % int(params["sub_dim"]):
        raise InvalidParameter(
            "The dimension of a vector (dim) should be a multiple of sub_dim. "
            f"Dimension:{field.dim}, sub_dim:{params['sub_dim']}"
        )


def _fixed(**values: str) -> Check:
    """The server's own values: what the user gives does not count."""

    def check(field: FieldSchema, given: Mapping[str, str], params: dict[str, str]) -> None:
        params.update(values)

    return check


def _not_a(kind: str, name: str, text: str) -> InvalidParameter:
    return InvalidParameter(
        f"wrong data type in json, invalid {kind} value, key: '{name}', value: '{text}'"
    )


def _out_of_range(name: str, value: str, bounds: str) -> str:
    return f"Out of range in json: param '{name}' ({value}) should be in range {bounds}"


@dataclass(frozen=True, slots=True)
class DenseIndexType:
    """vectors: types of fields that can have it."""

    vectors: tuple[DataType, ...]
    checks: tuple[Check, ...] = ()


_FHB = (FLOAT, *HALF)
_GRAPH = (_integer("M", 2, 2_048, 30), _integer("efConstruction", 1, INT32_MAX, 360))
_NLIST = check_nlist = _integer("nlist", 1, 65_536, 128)
_NBITS = _integer("nbits", 1, 24, 8)
_FINE = ("sq6", "sq8", "fp16", "bf16", "fp32", "flat")
_REFINE_IVF = _refine(*_FINE)
_REFINE_HNSW = _refine("sq4u", *_FINE)
DENSE_INDEX_TYPES: dict[str, DenseIndexType] = {
    "FLAT": DenseIndexType(_FHB),
    "IVF_FLAT": DenseIndexType(_FHB, (_NLIST,)),
    "IVF_SQ8": DenseIndexType(
        _FHB,
        (
            _NLIST,
            _choice(
                "sq_type",
                ("sq4", "sq6", "sq8"),
                "SQ8",
                "invalid sq_type : {}, optional types are [sq4, sq6, sq8]",
            ),
            *_REFINE_IVF,
        ),
    ),
    "IVF_PQ": DenseIndexType(
        _FHB, (_NLIST, _integer("m", 1, 65_536), _NBITS, _subquantizers, *_REFINE_IVF)
    ),
    "IVF_RABITQ": DenseIndexType(_FHB, (_NLIST, *_REFINE_IVF)),
    "SCANN": DenseIndexType(
        _FHB,
        (_NLIST, _truth("with_raw_data", True), _integer("sub_dim", 1, 65_536, 2), _sub_dim),
    ),
    "HNSW": DenseIndexType((*_FHB, INT8), (*_GRAPH, _no_refine)),
    "HNSW_SQ": DenseIndexType(
        (*_FHB, INT8),
        (
            *_GRAPH,
            _choice(
                "sq_type",
                ("sq4u", "sq6", "sq8", "fp16", "bf16"),
                "SQ8",
                "invalid scalar quantizer type",
            ),
            *_REFINE_HNSW,
        ),
    ),
    "HNSW_PQ": DenseIndexType(
        (*_FHB, INT8),
        (*_GRAPH, _integer("m", 1, 65_536, 32), _NBITS, _subquantizers, *_REFINE_HNSW),
    ),
    "HNSW_PRQ": DenseIndexType(
        (*_FHB, INT8),
        (
            *_GRAPH,
            _integer("m", 1, 65_536, 2),
            _integer("nrq", 1, 16, 2),
            _NBITS,
            _subquantizers,
            *_REFINE_HNSW,
        ),
    ),
    "DISKANN": DenseIndexType(_FHB, (_fixed(max_degree="56", search_list_size="100"),)),
}
UNSERVED_TYPES = frozenset({"AISAQ"})
"""Dense indexes of Milvus that are not served."""


def dense_metric(data_type: DataType, name: str) -> MetricType:
    """Metrics are compared to the letter. Raises InvalidParameter."""
    if name in DENSE_METRICS:
        return MetricType(name)
    kind = "int" if data_type is INT8 else "float"
    raise invalid(f"{kind} vector index does not support metric type: {name}")


def dense_index(
    field: FieldSchema, index_type: str, given: Mapping[str, str]
) -> tuple[MetricType, dict[str, str]]:
    """The metric and the complete parameters of an index of a dense type on a dense field. Raises
    InvalidParameter with Milvus's texts, and Unimplemented for what is not served."""
    if not given.get("metric_type"):
        raise invalid(f"metric type not set for vector index, field = {field.name}")
    metric = dense_metric(field.data_type, given["metric_type"])
    if index_type in UNSERVED_TYPES:
        raise Unimplemented(f"index type {index_type} is not supported yet, field = {field.name}")
    known = DENSE_INDEX_TYPES[index_type]
    if field.data_type not in known.vectors:
        raise refused_type(field.data_type, index_type)
    params: dict[str, str] = {}
    for check in known.checks:
        check(field, given, params)
    return metric, params
