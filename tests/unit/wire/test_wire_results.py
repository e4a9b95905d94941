import numpy as np
import pyarrow as pa
import pytest

from elanus.model.reads import Hits
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType
from elanus.wire.results import (
    IteratorState,
    count_results,
    mutation_result,
    query_results,
    search_results,
)

MILVUS = "milvus.proto.milvus."
WORDS = CollectionSchema(
    name="words",
    fields=(
        FieldSchema(name="word", data_type=DataType.VARCHAR, is_primary=True),
        FieldSchema(name="rank", data_type=DataType.INT32, nullable=True),
        FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "2"}),
        FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True),
    ),
)
ROWS = pa.record_batch(
    [
        pa.array(["a", "b", "c"]),
        pa.array([1, None, 3], pa.int32()),
        pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2)),
        pa.array([b'{"x":1,"y":2}', b"{}", b'{"y":3}'], pa.binary()),
    ],
    schema=WORDS.arrow,
)


def _hits(keys, counts):
    total = len(keys)
    return Hits(
        counts=np.array(counts, np.int64),
        scores=np.linspace(0.9, 0.1, total, dtype=np.float32),
        keys=keys,
        timestamps=np.ones(total, np.uint64),
        sources=np.ones(total, np.int64),
        offsets=np.arange(total),
    )


def test_hits_of_all_queries_follow_each_other(stock):
    hits = _hits(pa.array(["a", "b", "c"]), [2, 0, 1])
    message = search_results(
        WORDS,
        hits,
        ROWS,
        ["rank", "vector", "$meta"],
        output_fields=["rank", "vector", "y"],
        dynamic_keys=["y"],
        session_ts=77,
        iterator=IteratorState("token", 0.5),
    )
    read = stock(MILVUS + "SearchResults").FromString(message.SerializeToString())
    data = read.results
    assert (data.num_queries, data.top_k, list(data.topks)) == (3, 2, [2, 0, 1])
    assert list(data.scores) == hits.scores.tolist()
    assert list(data.ids.str_id.data) == ["a", "b", "c"]
    assert data.primary_field_name == "word"
    assert list(data.output_fields) == ["rank", "vector", "y"]
    rank, vector, meta = data.fields_data
    assert list(rank.scalars.int_data.data) == [1, 0, 3]
    assert list(rank.valid_data) == [True, False, True]
    assert list(vector.vectors.float_vector.data) == [1, 2, 3, 4, 5, 6]
    assert vector.vectors.dim == 2
    assert list(meta.scalars.json_data.data) == [b'{"y":2}', b"{}", b'{"y":3}']
    assert (read.session_ts, read.collection_name) == (77, "words")
    assert data.search_iterator_v2_results.token == "token"
    assert data.search_iterator_v2_results.last_bound == 0.5
    assert not read.status.code


@pytest.mark.parametrize("keys", [np.array([], np.int64), pa.array([], pa.string())])
def test_a_search_without_hits_has_zero_topks(stock, keys):
    message = search_results(WORDS, _hits(keys, [0, 0]), ROWS.slice(0, 0), ["rank"])
    read = stock(MILVUS + "SearchResults").FromString(message.SerializeToString()).results
    assert (read.num_queries, read.top_k, list(read.topks)) == (2, 0, [0, 0])
    assert not read.HasField("search_iterator_v2_results")
    assert read.ids.WhichOneof("id_field") is not None
    assert read.fields_data[0].scalars.WhichOneof("data") == "int_data"


def test_query_rows_are_columns(stock):
    message = query_results(WORDS, pa.table(ROWS), ["word", "rank"], session_ts=5)
    read = stock(MILVUS + "QueryResults").FromString(message.SerializeToString())
    assert [field.field_name for field in read.fields_data] == ["word", "rank"]
    assert list(read.fields_data[0].scalars.string_data.data) == ["a", "b", "c"]
    assert list(read.output_fields) == ["word", "rank"]
    assert (read.primary_field_name, read.session_ts) == ("word", 5)


def test_a_count_is_one_number(stock):
    read = stock(MILVUS + "QueryResults").FromString(
        count_results(WORDS, 341_479).SerializeToString()
    )
    (field,) = read.fields_data
    assert (field.field_name, field.type) == ("count(*)", 5)
    assert list(field.scalars.long_data.data) == [341_479]
    assert list(read.output_fields) == ["count(*)"]


def test_a_write_tells_its_keys_and_counts(stock):
    upsert = mutation_result(
        np.array([7, -8]), timestamp=99, inserted=2, deleted=2, upserted=2
    ).SerializeToString()
    read = stock(MILVUS + "MutationResult").FromString(upsert)
    assert list(read.IDs.int_id.data) == [7, -8]
    assert list(read.succ_index) == [0, 1]
    assert (read.insert_cnt, read.delete_cnt, read.upsert_cnt) == (2, 2, 2)
    assert (read.timestamp, read.acknowledged) == (99, True)

    delete = stock(MILVUS + "MutationResult").FromString(
        mutation_result(timestamp=3, deleted=4).SerializeToString()
    )
    assert (delete.delete_cnt, list(delete.succ_index)) == (4, [])
    assert not delete.IDs.int_id.data
