"""CreateIndex's parameters: what they resolve to, and what is refused in which words."""

from typing import Any

import pytest

from elanus.access.ddl import index_parameters
from elanus.access.ddl.index_parameters import check_alteration, resolve_index
from elanus.errors import ElanusError, InvalidParameter, MissingParameter, Unimplemented
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, MetricType

VECTOR = FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "8"})
ID = FieldSchema(name="id", data_type=DataType.INT64, is_primary=True)
NUMBER = FieldSchema(name="number", data_type=DataType.INT32)
REAL = FieldSchema(name="real", data_type=DataType.DOUBLE)
TEXT = FieldSchema(name="text", data_type=DataType.VARCHAR, type_params={"max_length": "9"})
META = FieldSchema(name="meta", data_type=DataType.JSON)
SHAPE = FieldSchema(name="shape", data_type=DataType.GEOMETRY)


@pytest.mark.parametrize(
    "given", [{}, {"index_type": "AUTOINDEX"}, {"index_type": "", "metric_type": "COSINE"}]
)
def test_autoindex_of_a_vector_is_scann_and_cosine(given: dict[str, str]) -> None:
    found = resolve_index(VECTOR, given)
    assert (found.index_type, found.metric, found.is_auto) == ("SCANN", MetricType.COSINE, True)
    assert found.params == {"nlist": "1024", "nprobe": "256", "sub_dim": "2"}


def test_without_its_kernel_there_is_no_scann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_parameters, "_has_scann", lambda: False)
    found = resolve_index(VECTOR, {"index_type": "AUTOINDEX"})
    assert (found.index_type, found.is_auto) == ("HNSW", True)
    with pytest.raises(Unimplemented, match="HNSW and IVF_PQ can be had here"):
        resolve_index(VECTOR, {"index_type": "SCANN", "metric_type": "L2"})


def test_autoindex_takes_a_metric() -> None:
    assert resolve_index(VECTOR, {"metric_type": "L2"}).metric is MetricType.L2


@pytest.mark.parametrize(
    ("given", "params"),
    [
        ({"index_type": "FLAT"}, {}),
        ({"index_type": "IVF_FLAT"}, {"nlist": "128"}),
        ({"index_type": "IVF_FLAT", "nlist": "65536"}, {"nlist": "65536"}),
        ({"index_type": "HNSW"}, {"M": "30", "efConstruction": "360"}),
        (
            {"index_type": "HNSW", "M": "2", "efConstruction": "1", "unknown": "x"},
            {"M": "2", "efConstruction": "1"},
        ),
    ],
)
def test_defaults_are_filled_in_and_unknown_parameters_ignored(
    given: dict[str, str], params: dict[str, str]
) -> None:
    assert resolve_index(VECTOR, {"metric_type": "IP", **given}).params == params


@pytest.mark.parametrize(
    ("field", "given", "index_type"),
    [
        (NUMBER, {}, "HYBRID"),
        (REAL, {"index_type": "AUTOINDEX"}, "INVERTED"),
        (NUMBER, {"index_type": "BITMAP"}, "BITMAP"),
        (TEXT, {"index_type": "TRIE"}, "Trie"),
        (REAL, {"index_type": "STL_SORT"}, "STL_SORT"),
        (ID, {"index_type": "INVERTED"}, "INVERTED"),
        (SHAPE, {}, "RTREE"),
        (TEXT, {"index_type": "STL_SORT"}, "STL_SORT"),
    ],
)
def test_scalar_indexes_are_taken_as_definitions(
    field: FieldSchema, given: dict[str, str], index_type: str
) -> None:
    found = resolve_index(field, given)
    assert (found.index_type, found.metric) == (index_type, None)


def test_a_json_index_has_a_path_and_a_type() -> None:
    given = {"index_type": "INVERTED", "json_path": "meta['a']", "json_cast_type": "double"}
    found = resolve_index(META, given)
    assert found.params == {"json_path": "/a", "json_cast_type": "DOUBLE"}
    whole = resolve_index(META, {"json_cast_type": "VARCHAR"})
    assert whole.params == {"json_path": "", "json_cast_type": "VARCHAR"}
    cast = {"json_cast_type": "double", "json_cast_function": "STRING_TO_DOUBLE"}
    assert resolve_index(META, cast).params == {
        "json_path": "",
        "json_cast_type": "DOUBLE",
        "json_cast_function": "STRING_TO_DOUBLE",
    }


@pytest.mark.parametrize(
    ("path", "pointer"),
    [("$meta['a/b']['0']", "/a~1b/0"), ("k", "/k"), ('"k"', "/k"), ('k["x"][1]', "/k/x/1")],
)
def test_the_path_of_a_dynamic_key_is_a_pointer(path: str, pointer: str) -> None:
    field = FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True)
    found = resolve_index(field, {"json_path": path, "json_cast_type": "VARCHAR"})
    assert found.params["json_path"] == pointer


def test_an_ngram_index_has_its_sizes() -> None:
    given = {"index_type": "NGRAM", "min_gram": "2", "max_gram": "3"}
    assert resolve_index(TEXT, given).params == {"min_gram": "2", "max_gram": "3"}


HNSW = {"index_type": "HNSW", "metric_type": "L2"}
IVF = {"index_type": "IVF_FLAT", "metric_type": "L2"}
WRONG: list[tuple[FieldSchema, dict[str, str], type[ElanusError], str]] = [
    (
        VECTOR,
        {"index_type": "ANNOY", "metric_type": "L2"},
        InvalidParameter,
        "invalid index type: ANNOY",
    ),
    (VECTOR, {"index_type": "INVERTED"}, InvalidParameter, "invalid index type: INVERTED"),
    (VECTOR, {"index_type": "GPU_CAGRA"}, InvalidParameter, "invalid index type: GPU_CAGRA"),
    (
        VECTOR,
        {"index_type": "BIN_FLAT", "metric_type": "HAMMING"},
        InvalidParameter,
        "data type FloatVector can't build with this index BIN_FLAT: invalid parameter"
        "[expected=valid index params][actual=invalid index params]",
    ),
    (
        VECTOR,
        {"index_type": "AISAQ", "metric_type": "L2"},
        Unimplemented,
        "AISAQ is not supported yet",
    ),
    (VECTOR, {"index_type": "HNSW"}, InvalidParameter, "metric type not set for vector index"),
    (
        VECTOR,
        {"index_type": "HNSW", "metric_type": "l2"},
        InvalidParameter,
        "float vector index does not support metric type: l2",
    ),
    (VECTOR, {"nlist": "7"}, InvalidParameter, "IndexType not specified"),
    (
        VECTOR,
        {"index_type": "AUTOINDEX", "nlist": "7"},
        InvalidParameter,
        "only metric type can be passed when use AutoIndex",
    ),
    (
        VECTOR,
        {**IVF, "nlist": "0"},
        InvalidParameter,
        "Out of range in json: param 'nlist' (0) should be in range [1, 65536]",
    ),
    (
        VECTOR,
        {**HNSW, "M": "2049"},
        InvalidParameter,
        "Out of range in json: param 'M' (2049) should be in range [2, 2048]",
    ),
    (
        VECTOR,
        {**HNSW, "M": "16.0"},
        InvalidParameter,
        "wrong data type in json",
    ),
    (
        VECTOR,
        {**HNSW, "efConstruction": "True"},
        InvalidParameter,
        "invalid integer value, key: 'efConstruction', value: 'True'",
    ),
    (
        VECTOR,
        {**HNSW, "mmap.enabled": "maybe"},
        InvalidParameter,
        "invalid mmap.enabled value: maybe, expected: true, false",
    ),
    (NUMBER, HNSW, InvalidParameter, "index HNSW only supports vector data type"),
    (NUMBER, {"index_type": "HYBRID"}, InvalidParameter, "invalid index type: HYBRID"),
    (
        ID,
        {"index_type": "BITMAP"},
        InvalidParameter,
        "create bitmap index on primary key not supported",
    ),
    (
        REAL,
        {"index_type": "BITMAP"},
        InvalidParameter,
        "bitmap index are only supported on bool, int, string",
    ),
    (NUMBER, {"index_type": "Trie"}, InvalidParameter, "TRIE are only supported on varchar field"),
    (
        META,
        {"index_type": "STL_SORT"},
        InvalidParameter,
        "STL_SORT are only supported on numeric, varchar",
    ),
    (
        TEXT,
        {"index_type": "NGRAM", "min_gram": "2"},
        InvalidParameter,
        "Ngram index must specify both min_gram and max_gram",
    ),
    (
        TEXT,
        {"index_type": "NGRAM", "min_gram": "2.5", "max_gram": "3"},
        InvalidParameter,
        "min_gram for Ngram index must be an integer, got: 2.5",
    ),
    (
        TEXT,
        {"index_type": "NGRAM", "min_gram": "3", "max_gram": "2"},
        InvalidParameter,
        "invalid min_gram or max_gram value for Ngram index, min_gram: 3, max_gram: 2",
    ),
    (
        NUMBER,
        {"index_type": "NGRAM"},
        InvalidParameter,
        "ngram index can only be created on VARCHAR or JSON field",
    ),
    (
        META,
        {"index_type": "NGRAM", "min_gram": "2", "max_gram": "3"},
        InvalidParameter,
        "JSON field with ngram index must specify json_cast_type",
    ),
    (
        META,
        {"index_type": "NGRAM", "min_gram": "2", "max_gram": "3", "json_cast_type": "bool"},
        InvalidParameter,
        "JSON field with ngram index only supports VARCHAR cast type, got: bool",
    ),
    (
        NUMBER,
        {"index_type": "RTREE"},
        InvalidParameter,
        "RTREE index can only be built on geometry field, got Int32",
    ),
    (
        SHAPE,
        {"index_type": "INVERTED"},
        InvalidParameter,
        "INVERTED are not supported on Geometry field",
    ),
    (
        META,
        {"json_path": "other['a']", "json_cast_type": "bool"},
        InvalidParameter,
        "cannot parse identifier: other['a']",
    ),
    (
        META,
        {"json_path": "meta['a", "json_cast_type": "bool"},
        InvalidParameter,
        "cannot parse identifier: meta['a",
    ),
    (META, {"index_type": "INVERTED"}, MissingParameter, "json index must specify cast type"),
    (
        META,
        {"index_type": "INVERTED", "json_cast_type": "INT"},
        InvalidParameter,
        "json_cast_type INT is not supported",
    ),
    (
        META,
        {"json_cast_type": "DOUBLE", "json_cast_function": "STRING_TO_BOOL"},
        InvalidParameter,
        "json_cast_function STRING_TO_BOOL is not supported",
    ),
    (
        META,
        {"json_cast_type": "VARCHAR", "json_cast_function": "STRING_TO_DOUBLE"},
        InvalidParameter,
        "json_cast_function STRING_TO_DOUBLE is not supported for json_cast_type VARCHAR",
    ),
]


@pytest.mark.parametrize(("field", "given", "kind", "text"), WRONG)
def test_a_wrong_index_is_refused_with_its_cause(
    field: FieldSchema, given: dict[str, str], kind: type[ElanusError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        resolve_index(field, given)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("index_type", "properties", "text"),
    [
        ("HNSW", {"mmap.enabled": "yes"}, "invalid mmap.enabled value: yes"),
        ("STL_SORT", {"mmap.enabled": "true"}, "index type STL_SORT does not support mmap"),
        ("HNSW", {"indexoffsetcache.enabled": "true"}, "invalid offset cache index params"),
        ("HNSW", {"warmup": "soon"}, "invalid warmup policy: soon"),
    ],
)
def test_an_alteration_has_to_fit_the_index(
    index_type: str, properties: dict[str, Any], text: str
) -> None:
    with pytest.raises(ElanusError, match=text):
        check_alteration(index_type, properties)
