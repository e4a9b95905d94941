"""Arrays of structs in schemas, indexes, writes and filters: what is refused, in which words."""

from typing import Any

import msgspec
import numpy as np
import pytest

from elanus.access.ddl.index_parameters import resolve_index
from elanus.access.ddl.schemas import CollectionRequest, resolve
from elanus.access.dql import parameters
from elanus.access.dql.index_parameters import check_index_parameters
from elanus.access.dql.output import resolve_output
from elanus.config.settings import Settings
from elanus.coordinator.root.schemas import with_field, with_field_ids
from elanus.engine.filter.compile import compile_filter
from elanus.errors import ElanusError, FilterError, InvalidParameter, Rejected
from elanus.model.schema import CollectionSchema, FieldSchema, StructSchema
from elanus.model.types import DataType, MetricType
from elanus.model.vectors import list_column
from elanus.rows.structs import check_structs
from elanus.wire.columns import WireColumn

ID = FieldSchema(name="id", data_type=DataType.INT64, is_primary=True)
WORD = FieldSchema(
    name="clips[word]",
    struct="clips",
    data_type=DataType.ARRAY,
    element_type=DataType.VARCHAR,
    type_params={"max_length": "9", "max_capacity": "4"},
)
VECTOR = FieldSchema(
    name="clips[emb]",
    struct="clips",
    data_type=DataType.ARRAY_OF_VECTOR,
    element_type=DataType.FLOAT_VECTOR,
    type_params={"dim": "2", "max_capacity": "4"},
)
PLAIN = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "2"})
CLIPS = StructSchema(name="clips")


def changed(field: FieldSchema, **changes: Any) -> FieldSchema:
    return msgspec.structs.replace(field, **changes)


def create(*fields: FieldSchema, structs: tuple[StructSchema, ...] = (CLIPS,)) -> CollectionSchema:
    schema = CollectionSchema(name="c", fields=(ID, *fields), structs=structs)
    schema = msgspec.structs.replace(schema, enable_dynamic_field=True)
    request = CollectionRequest(name="c", schema=schema, shards=1, partitions=0, properties={})
    return with_field_ids(resolve(request, Settings()).schema)


SCHEMA = create(WORD, VECTOR)


def test_ids_go_to_fields_then_structs_with_theirs() -> None:
    assert [(f.name, f.field_id) for f in SCHEMA.fields] == [
        ("id", 100),
        ("$meta", 101),
        ("clips[word]", 103),
        ("clips[emb]", 104),
    ]
    assert SCHEMA.structs[0].field_id == 102
    assert "clips" in SCHEMA.names
    added = with_field(SCHEMA, FieldSchema(name="n", data_type=DataType.INT8, nullable=True))
    assert [f.name for f in added.fields] == ["id", "n", "$meta", "clips[word]", "clips[emb]"]
    assert added.by_name["n"].field_id == 105


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ((PLAIN,), "struct array field clips has no sub-fields"),
        ((VECTOR, changed(WORD, data_type=DataType.INT64)), "but field word is Int64"),
        (
            (changed(VECTOR, element_type=DataType.SPARSE_FLOAT_VECTOR),),
            "Unsupported element type SparseFloatVector of ArrayOfVector field emb",
        ),
        ((VECTOR, changed(WORD, is_primary=True)), "primary key is not supported for struct field"),
        ((VECTOR, changed(WORD, nullable=True)), "structName=clips, subFieldName=word"),
        (
            (VECTOR, changed(WORD, type_params={"max_length": "9", "max_capacity": "5"})),
            "must have the same max_capacity: structName=clips, subFieldName=word, max_capacity=5",
        ),
        ((changed(VECTOR, type_params={"max_capacity": "4"}),), "dimension is not defined"),
        ((changed(VECTOR, type_params={"dim": "2"}),), r"type param\(max_capacity\) should be"),
        (
            (changed(VECTOR, type_params={"dim": "1", "max_capacity": "4"}),),
            "invalid dimension: 1. should be in range 2",
        ),
        ((changed(VECTOR, name="clips[1]"),), "Invalid field name: 1."),
        ((VECTOR, VECTOR), r"duplicated field name clips\[emb\] found"),
        (
            (VECTOR, FieldSchema(name="clips", data_type=DataType.BOOL)),
            "duplicated field name clips found",
        ),
        ((VECTOR, FieldSchema(name="a[b]", data_type=DataType.BOOL)), r"Invalid field name: a\[b"),
        (
            (VECTOR, changed(VECTOR, name="free", struct="")),
            "array of vector can only be in the struct array field, field name: free",
        ),
    ],
)
def test_structs_that_can_not_be(fields: tuple[FieldSchema, ...], said: str) -> None:
    with pytest.raises(ElanusError, match=said):
        create(*fields)


@pytest.mark.parametrize(
    ("given", "index_type", "metric", "params"),
    [
        ({}, "HNSW", "MAX_SIM_COSINE", {"M": "18", "efConstruction": "240"}),
        (
            {"index_type": "AUTOINDEX", "metric_type": "MAX_SIM_L2"},
            "HNSW",
            "MAX_SIM_L2",
            {"M": "18", "efConstruction": "240"},
        ),
        ({"index_type": "FLAT", "metric_type": "MAX_SIM"}, "FLAT", "MAX_SIM", {}),
        ({"index_type": "FLAT", "metric_type": "L2"}, "FLAT", "L2", {}),
        (
            {"index_type": "HNSW", "metric_type": "COSINE", "M": "8"},
            "HNSW",
            "COSINE",
            {"M": "8", "efConstruction": "360"},
        ),
        (
            {"index_type": "HNSW", "metric_type": "MAX_SIM_IP", "M": "8"},
            "HNSW",
            "MAX_SIM_IP",
            {"M": "8", "efConstruction": "360"},
        ),
    ],
)
def test_indexes_of_lists(
    given: dict[str, str], index_type: str, metric: str, params: dict[str, str]
) -> None:
    found = resolve_index(VECTOR, given)
    assert (found.index_type, found.metric, found.params) == (index_type, metric, params)


def test_indexes_of_lists_of_bits() -> None:
    bits = changed(VECTOR, element_type=DataType.BINARY_VECTOR)
    assert resolve_index(bits, {}).metric is MetricType.MAX_SIM_HAMMING
    given = {"index_type": "BIN_IVF_FLAT", "metric_type": "MAX_SIM_JACCARD"}
    assert resolve_index(bits, given).params == {"nlist": "128"}
    one = {"index_type": "BIN_FLAT", "metric_type": "HAMMING"}
    assert resolve_index(bits, one).metric is MetricType.HAMMING


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"index_type": "HNSW", "metric_type": "HAMMING"},
            "array of vector index does not support metric type: HAMMING",
        ),
        (
            {"index_type": "HNSW", "metric_type": "MAX_SIM_HAMMING"},
            "array of vector index does not support metric type: MAX_SIM_HAMMING",
        ),
        ({"index_type": "HNSW"}, r"metric type not set for vector index, field = clips\[emb\]"),
        (
            {"index_type": "SCANN", "metric_type": "MAX_SIM"},
            "data type ArrayOfVector can't build with this index SCANN",
        ),
        ({"index_type": "NONE", "metric_type": "MAX_SIM"}, "invalid index type: NONE"),
        (
            {"index_type": "HNSW", "metric_type": "MAX_SIM", "M": "1"},
            r"param 'M' \(1\) should be in range \[2, 2048\]",
        ),
    ],
)
def test_indexes_that_lists_can_not_have(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        resolve_index(VECTOR, given)


def test_a_ratio_is_a_parameter_of_lists_only() -> None:
    given = {"ef": 50, "retrieval_ann_ratio": "2.5"}

    def checked(**options: Any) -> dict[str, Any]:
        return check_index_parameters("HNSW", given, top_k=10, unbounded=True, **options)

    assert checked() == {"ef": 50}
    assert checked(of_lists=True) == {"ef": 50, "retrieval_ann_ratio": 2.5}
    given["retrieval_ann_ratio"] = "0"
    with pytest.raises(Rejected, match="retrieval_ann_ratio"):
        checked(of_lists=True)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [({"params": '{"radius": 1}'}, "range search"), ({"iterator": "True"}, "search iterator")],
)
def test_what_a_search_of_lists_can_not_have(asked: dict[str, str], kind: str) -> None:
    limits = Settings().quota_and_limits.limits
    given = parameters.parse_search({"topk": "3", **asked}, limits, nq=1)
    with pytest.raises(InvalidParameter, match=rf"{kind} is not supported .* clips\[emb\]"):
        parameters.check_lists(given, VECTOR.name)


@pytest.mark.parametrize(
    ("requested", "fields", "shown"),
    [
        (["*"], ("id", "$meta", "clips[word]", "clips[emb]"), ("id", "$meta", "clips")),
        (["clips"], ("clips[word]", "clips[emb]"), ("clips",)),
        (["clips[emb]"], ("clips[emb]",), ("clips[emb]",)),
    ],
)
def test_a_struct_is_returned_whole_or_in_parts(
    requested: list[str], fields: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    output = resolve_output(requested, SCHEMA)
    assert (output.fields, output.shown) == (fields, shown)


def sent(
    lengths: list[int], name: str = "clips[emb]", valid: list[bool] | None = None
) -> WireColumn:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows: Any = list_column(offsets, np.zeros((offsets[-1], 2), np.float32))
    holder = "vector_array"
    if name == "clips[word]":
        holder = "array_data"
    mask = None if valid is None else np.array(valid)
    return WireColumn(name, DataType.NONE, holder, rows, mask)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([sent([1])], "fieldData fields length:1, schema fields length:2"),
        (
            [sent([1, 2], "clips[word]"), sent([1, 3])],
            "struct field 'clips' at row 1: expected 2, got 3 for sub-field 'emb'",
        ),
        (
            [sent([1, 2], "clips[word]"), sent([1])],
            "inconsistent array length in struct field 'clips': expected 2, got 1",
        ),
        (
            [sent([1], "clips[word]", [True, False]), sent([1, 0])],
            "inconsistent nulls in struct field 'clips': the valid_data of sub-field 'emb' differs",
        ),
        (
            [
                sent([1, 2], "clips[word]", [True, False, True]),
                sent([1, 3], valid=[True, False, True]),
            ],
            "struct field 'clips' at row 2: expected 2, got 3 for sub-field 'emb'",
        ),
    ],
)
def test_parts_of_a_struct_must_agree(columns: list[WireColumn], said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        check_structs({column.name: column for column in columns}, SCHEMA)


def test_parts_of_a_struct_that_is_null_in_the_same_rows_agree() -> None:
    valid = [False, True]
    columns = [sent([2], "clips[word]", valid), sent([2], valid=valid)]
    check_structs({column.name: column for column in columns}, SCHEMA)


def test_fields_of_a_struct_that_may_be_null_may_be_null_too() -> None:
    made = create(
        changed(WORD, nullable=True),
        changed(VECTOR, nullable=True),
        structs=(StructSchema(name="clips", nullable=True),),
    )
    assert made.structs[0].nullable


def test_a_write_without_the_struct_is_left_to_others() -> None:
    check_structs({}, SCHEMA)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clips[emb] == 1", r"filter on vector field \(clips\[emb\]\) is not supported"),
        ("clips[other] == [1]", r"field clips\[other\] not exist"),
        ("clips[word] > 1", "comparison operations are not supported on array fields|array"),
    ],
)
def test_filters_that_can_not_be(text: str, said: str) -> None:
    with pytest.raises(FilterError, match=said):
        compile_filter(text, SCHEMA)


def test_fields_of_structs_are_arrays_in_filters() -> None:
    plan = compile_filter("array_contains(clips[word], 'a') and clips[word][0] == 'b'", SCHEMA)
    assert plan is not None
    assert list(plan.fields) == ["clips[word]"]
    element = compile_filter("clips[0][word] == 'b'", SCHEMA)
    same = compile_filter("clips[word][0] == 'b'", SCHEMA)
    assert element is not None
    assert same is not None
    assert element.key == same.key
