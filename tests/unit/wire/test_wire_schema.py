import pytest

from elanus.errors import InvalidParameter, Rejected, Unimplemented
from elanus.model.catalog import CollectionInfo, PartitionInfo
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.timestamp import compose
from elanus.model.types import ConsistencyLevel, DataType
from elanus.wire.protocol import common, schema
from elanus.wire.schema import (
    collection_message,
    decode_field,
    decode_schema,
    dict_to_pairs,
    pairs_to_dict,
    schema_message,
)

SCHEMA = "milvus.proto.schema."
FIELDS = (
    FieldSchema(name="id", data_type=DataType.INT64, is_primary=True, auto_id=True, field_id=100),
    FieldSchema(
        name="word",
        data_type=DataType.VARCHAR,
        description="ein Wort",
        is_partition_key=True,
        type_params={"max_length": "64", "some.future.param": "kept"},
    ),
    FieldSchema(
        name="tags",
        data_type=DataType.ARRAY,
        element_type=DataType.INT16,
        nullable=True,
        type_params={"max_capacity": "8"},
    ),
    FieldSchema(name="day", data_type=DataType.INT8, default_value=-3, is_clustering_key=True),
    FieldSchema(name="big", data_type=DataType.INT64, default_value=2**40),
    FieldSchema(name="ok", data_type=DataType.BOOL, default_value=False),
    FieldSchema(name="small", data_type=DataType.FLOAT, default_value=0.5),
    FieldSchema(name="wide", data_type=DataType.DOUBLE, default_value=0.1, nullable=True),
    FieldSchema(name="text", data_type=DataType.VARCHAR, default_value="", nullable=True),
    FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "8"}),
)
META = FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True, field_id=110)
WORDS = CollectionSchema(
    name="words",
    description="all of them",
    enable_dynamic_field=True,
    fields=FIELDS,
)


def test_a_schema_survives_the_way_to_the_client_and_back():
    assert decode_schema(schema_message(WORDS).SerializeToString()) == WORDS


def test_the_dynamic_field_is_not_shown():
    with_meta = CollectionSchema(
        name="words", fields=(*FIELDS, META), description="all of them", enable_dynamic_field=True
    )
    assert schema_message(with_meta) == schema_message(WORDS)


def test_clients_read_what_was_meant(stock):
    read = stock(SCHEMA + "CollectionSchema").FromString(schema_message(WORDS).SerializeToString())
    fields = {field.name: field for field in read.fields}
    assert fields["id"].is_primary_key
    assert fields["id"].autoID
    assert fields["id"].fieldID == 100
    assert not fields["id"].HasField("default_value")
    assert fields["day"].default_value.int_data == -3
    assert fields["ok"].default_value.WhichOneof("data") == "bool_data"
    assert fields["text"].default_value.WhichOneof("data") == "string_data"
    assert pairs_to_dict(fields["word"].type_params)["some.future.param"] == "kept"
    assert fields["tags"].element_type == 3


def test_index_params_of_a_field_are_kept():
    message = schema.FieldSchema(
        name="v",
        data_type=101,
        type_params=dict_to_pairs({"dim": "4"}),
        index_params=dict_to_pairs({"metric_type": "L2", "dim": "5"}),
    )
    field = decode_field(message.SerializeToString())
    assert field.type_params == {"metric_type": "L2", "dim": "4"}


@pytest.mark.parametrize(
    ("data_type", "value", "text"),
    [
        (10, {"long_data": 1}, r"type \(Float\) of field \(f\) is not equal to the type"),
        (5, {"int_data": 1}, r"type \(Int64\) of field \(f\) is not equal to the type"),
        (21, {"bytes_data": b"x"}, r"type \(VarChar\)"),
        (22, {"string_data": "x"}, "type not support default_value, type:Array, name:f"),
        (23, {"bytes_data": b"{}"}, "type not support default_value, type:JSON, name:f"),
    ],
)
def test_a_default_value_of_another_type_is_refused(data_type, value, text):
    message = schema.FieldSchema(name="f", data_type=data_type, default_value=value)
    with pytest.raises(InvalidParameter, match=text):
        decode_field(message.SerializeToString())


def test_an_empty_default_value_is_none():
    message = schema.FieldSchema(name="f", data_type=5, default_value={})
    assert decode_field(message.SerializeToString()).default_value is None


def test_an_unknown_type_is_refused():
    message = schema.FieldSchema(name="f", data_type=77)
    with pytest.raises(Rejected, match="data type 77 is not valid"):
        decode_field(message.SerializeToString())


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"functions": [{"name": "bm25_words"}]}, "bm25_words"),
        ({"external_source": "s3://bucket"}, "external collections"),
        ({"enable_namespace": True}, "namespaces"),
    ],
)
def test_what_is_not_served_is_named(extra, named):
    message = schema.CollectionSchema(name="c", **extra)
    with pytest.raises(Unimplemented, match=named):
        decode_schema(message.SerializeToString())


def test_a_truncated_schema_is_an_input_error():
    with pytest.raises(InvalidParameter, match="failed to decode the collection schema"):
        decode_schema(schema_message(WORDS).SerializeToString()[:-3])


def test_a_description_has_everything_that_clients_read():
    created = compose(1_700_000_000_000, 5)
    info = CollectionInfo(
        collection_id=4511,
        database="books",
        schema=WORDS,
        vchannels=("by-dev-rootcoord-dml_3_4511v0", "by-dev-rootcoord-dml_4_4511v1"),
        partitions=(PartitionInfo(partition_id=1, name="_default", created_ts=created),),
        consistency_level=ConsistencyLevel.BOUNDED,
        created_ts=created,
        updated_ts=created + 9,
        properties={"collection.ttl.seconds": "60"},
    )
    answer = collection_message(info, requested_name="alias", aliases=["alias"], database_id=7)
    assert answer.status == common.Status()
    assert answer.collection_name == "alias"
    assert answer.schema.name == "words"
    assert list(answer.physical_channel_names) == [
        "by-dev-rootcoord-dml_3",
        "by-dev-rootcoord-dml_4",
    ]
    assert answer.shards_num == 2
    assert answer.created_utc_timestamp == 1_700_000_000_000
    assert answer.update_timestamp_str == str(answer.update_timestamp) == str(created + 9)
    assert answer.consistency_level == 2
    assert answer.num_partitions == 1
    assert pairs_to_dict(answer.properties) == {"collection.ttl.seconds": "60"}
    assert (answer.db_name, answer.db_id, list(answer.aliases)) == ("books", 7, ["alias"])
