"""Parameters of the indexes of dense vectors: defaults, ranges, and errors in Milvus's words."""

import pytest

from elanus.access.ddl.index_parameters import resolve_index
from elanus.errors import InvalidParameter
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType

NO_REFINE = {"refine": "false", "refine_type": "flat"}
GRAPH = {"M": "30", "efConstruction": "360"}
DEFAULTS: dict[str, dict[str, str]] = {
    "IVF_SQ8": {"nlist": "128", "sq_type": "sq8", **NO_REFINE},
    "IVF_PQ": {"nlist": "128", "m": "4", "nbits": "8", **NO_REFINE},
    "IVF_RABITQ": {"nlist": "128", **NO_REFINE},
    "SCANN": {"nlist": "128", "with_raw_data": "true", "sub_dim": "2"},
    "HNSW_SQ": {**GRAPH, "sq_type": "sq8", **NO_REFINE},
    "HNSW_PQ": {**GRAPH, "m": "32", "nbits": "8", **NO_REFINE},
    "HNSW_PRQ": {**GRAPH, "m": "2", "nrq": "2", "nbits": "8", **NO_REFINE},
    "DISKANN": {"max_degree": "56", "search_list_size": "100"},
}


def vector(data_type: DataType = DataType.FLOAT_VECTOR, dim: int = 64) -> FieldSchema:
    return FieldSchema(name="vector", data_type=data_type, type_params={"dim": str(dim)})


@pytest.mark.parametrize("index_type", DEFAULTS)
def test_defaults_are_filled_in(index_type: str) -> None:
    given = {"index_type": index_type, "metric_type": "L2"}
    if index_type == "IVF_PQ":
        given["m"] = "4"
    assert resolve_index(vector(), given).params == DEFAULTS[index_type]


def test_the_servers_own_values_of_diskann_win_over_bad_ones() -> None:
    given = {"index_type": "DISKANN", "metric_type": "IP", "max_degree": "-1"}
    assert resolve_index(vector(), given).params == DEFAULTS["DISKANN"]


RANGE = "Out of range in json: param '{}' ({}) should be in range [{}, {}]"
WRONG: list[tuple[dict[str, str], str]] = [
    ({"index_type": "IVF_PQ"}, "param 'm' not exist in json"),
    ({"index_type": "IVF_PQ", "m": "0"}, RANGE.format("m", 0, 1, 65536)),
    ({"index_type": "IVF_PQ", "m": "4", "nbits": "25"}, RANGE.format("nbits", 25, 1, 24)),
    ({"index_type": "IVF_SQ8", "nlist": "65537"}, RANGE.format("nlist", 65537, 1, 65536)),
    ({"index_type": "SCANN", "nlist": "0"}, RANGE.format("nlist", 0, 1, 65536)),
    ({"index_type": "HNSW_SQ", "M": "1"}, RANGE.format("M", 1, 2, 2048)),
    (
        {"index_type": "HNSW_PQ", "efConstruction": "0"},
        RANGE.format("efConstruction", 0, 1, 2**31 - 1),
    ),
    ({"index_type": "HNSW_PRQ", "nrq": "17"}, RANGE.format("nrq", 17, 1, 16)),
    *(
        (
            {"index_type": index_type, "m": "7"},
            "The dimension of a vector (dim) should be a multiple of the number of subquantizers "
            "(m). Dimension: 64, m: 7",
        )
        for index_type in ("IVF_PQ", "HNSW_PQ", "HNSW_PRQ")
    ),
    (
        {"index_type": "SCANN", "sub_dim": "7"},
        "The dimension of a vector (dim) should be a multiple of sub_dim. Dimension:64, sub_dim:7",
    ),
    (
        {"index_type": "IVF_RABITQ", "refine": "true", "refine_type": "PQ"},
        "invalid refine type : PQ, optional types are [sq6, sq8, fp16, bf16, fp32, flat]",
    ),
    (
        {"index_type": "HNSW_SQ", "refine_type": "PQ"},
        "invalid refine type : PQ, optional types are [sq4u, sq6, sq8, fp16, bf16, fp32, flat]",
    ),
    ({"index_type": "HNSW", "refine": "true"}, "refine is not supported for this index"),
    (
        {"index_type": "IVF_SQ8", "sq_type": "fp16"},
        "invalid sq_type : fp16, optional types are [sq4, sq6, sq8]",
    ),
    ({"index_type": "HNSW_SQ", "sq_type": "sq4"}, "invalid scalar quantizer type"),
    (
        {"index_type": "IVF_SQ8", "nlist": "16.0"},
        "wrong data type in json, invalid integer value, key: 'nlist', value: '16.0'",
    ),
    (
        {"index_type": "SCANN", "with_raw_data": "maybe"},
        "wrong data type in json, invalid boolean value, key: 'with_raw_data', value: 'maybe'",
    ),
    (
        {"index_type": "DISKANN", "metric_type": "HAMMING"},
        "float vector index does not support metric type: HAMMING",
    ),
    ({"index_type": "DISKANN", "metric_type": ""}, "metric type not set for vector index"),
]


@pytest.mark.parametrize(("given", "text"), WRONG)
def test_a_wrong_index_is_refused_in_milvus_words(given: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        resolve_index(vector(), {"metric_type": "L2", **given})
    assert text in str(caught.value)


@pytest.mark.parametrize("index_type", ["HNSW", "HNSW_SQ", "HNSW_PQ", "HNSW_PRQ"])
def test_graphs_take_int8_and_others_do_not(index_type: str) -> None:
    given = {"metric_type": "IP", "index_type": index_type}
    assert resolve_index(vector(DataType.INT8_VECTOR), given).index_type == index_type
    for other in ("FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN", "DISKANN"):
        with pytest.raises(InvalidParameter) as caught:
            resolve_index(vector(DataType.INT8_VECTOR), {**given, "index_type": other})
        assert f"data type Int8Vector can't build with this index {other}" in str(caught.value)
    with pytest.raises(InvalidParameter, match="int vector index does not support metric type: l2"):
        resolve_index(vector(DataType.INT8_VECTOR), {**given, "metric_type": "l2"})
