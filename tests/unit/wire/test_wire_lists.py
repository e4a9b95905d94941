"""Arrays of structs and lists of vectors, compared with what the stock classes write and read."""

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from elanus.errors import InvalidParameter
from elanus.model.schema import CollectionSchema, FieldSchema, StructSchema, arrow_type
from elanus.model.types import DataType
from elanus.model.vectors import ELEMENT_DTYPES, VectorLists, narrowed, widened
from elanus.wire.columns import decode_column, encode_column
from elanus.wire.lists import flattened
from elanus.wire.placeholders import decode_queries, encode_lists, encode_queries
from elanus.wire.protocol import common, schema
from elanus.wire.results import field_messages
from elanus.wire.schema import decode_schema, schema_message

FIELD_DATA = "milvus.proto.schema.FieldData"
DIM = 16
HOLDER = {
    DataType.FLOAT_VECTOR: "float_vector",
    DataType.BINARY_VECTOR: "binary_vector",
    DataType.FLOAT16_VECTOR: "float16_vector",
    DataType.BFLOAT16_VECTOR: "bfloat16_vector",
    DataType.INT8_VECTOR: "int8_vector",
}
LENGTHS = [2, 0, 3]


def list_field(kind=DataType.FLOAT_VECTOR):
    return FieldSchema(
        name="clips[emb]",
        struct="clips",
        data_type=DataType.ARRAY_OF_VECTOR,
        element_type=kind,
        field_id=104,
        type_params={"dim": str(DIM), "max_capacity": "4"},
    )


def rows_of(kind):
    """Bytes of each row's vectors."""
    width = DIM // 8 if kind is DataType.BINARY_VECTOR else DIM
    random = np.random.default_rng(3)
    return [
        random.integers(0, 60, size * width).astype(ELEMENT_DTYPES[kind]).tobytes()
        for size in LENGTHS
    ]


def sent_lists(stock, kind):
    """As the client sends them: a row without vectors has a dimension and nothing else."""
    message = stock(FIELD_DATA)(type=int(DataType.ARRAY_OF_VECTOR), field_name="emb")
    lists = message.vectors.vector_array
    lists.dim = DIM
    lists.element_type = int(kind)
    for data in rows_of(kind):
        row = lists.data.add(dim=DIM)
        if kind is DataType.FLOAT_VECTOR:
            row.float_vector.data.extend(np.frombuffer(data, "<f4").tolist())
        elif data:
            setattr(row, HOLDER[kind], data)
    return message


@pytest.mark.parametrize("kind", list(HOLDER))
def test_lists_of_vectors_survive_both_ways(stock, kind):
    field = list_field(kind)
    sent = sent_lists(stock, kind).SerializeToString()
    column = decode_column(schema.FieldData.FromString(sent), field.name)
    assert (column.name, column.holder, column.element_holder) == (
        "clips[emb]",
        "vector_array",
        HOLDER[kind],
    )
    assert column.element_type is kind
    assert column.values.type == arrow_type(field)
    lists = VectorLists.of(column.values)
    assert [lists.row(n).tobytes() for n in range(3)] == rows_of(kind)
    read = stock(FIELD_DATA).FromString(
        encode_column(field, column.values.slice(1)).SerializeToString()
    )
    assert (read.type, read.field_name, read.field_id) == (106, "emb", 104)
    array = read.vectors.vector_array
    assert (array.dim, array.element_type, len(array.data)) == (DIM, int(kind), 2)
    for row, data in zip(array.data, rows_of(kind)[1:], strict=True):
        assert row.dim == DIM
        if kind is DataType.FLOAT_VECTOR:
            assert np.array(row.float_vector.data, "<f4").tobytes() == data
        else:
            assert getattr(row, HOLDER[kind]) == data


def test_rows_without_any_vector_have_no_type():
    message = schema.FieldData(type=106, field_name="emb")
    message.vectors.vector_array.data.add(dim=DIM)
    message.vectors.vector_array.data.add(dim=DIM)
    column = decode_column(message)
    assert (column.count, column.element_holder) == (2, "")
    assert column.values.to_pylist() == [[], []]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(4, [1.0] * 5)], r"the length\(5\) of float data should divide the dim\(4\)"),
        ([(4, [1.0] * 4), (2, [1.0] * 4)], "several dims: 2, 4"),
        ([(0, [1.0] * 4)], r"the dim \(0\) of field data\(emb\) should be greater than 0"),
        ([(4, [1.0] * 4), (4, b"1234")], "vectors of another type"),
    ],
)
def test_lists_that_are_none_are_refused(stock, rows, said):
    message = stock(FIELD_DATA)(type=106, field_name="emb")
    for dim, values in rows:
        row = message.vectors.vector_array.data.add(dim=dim)
        if isinstance(values, bytes):
            row.int8_vector = values
        else:
            row.float_vector.data.extend(values)
    with pytest.raises(InvalidParameter, match=said):
        decode_column(schema.FieldData.FromString(message.SerializeToString()))


STRUCTS = CollectionSchema(
    name="c",
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True, field_id=100),
        FieldSchema(
            name="clips[word]",
            struct="clips",
            data_type=DataType.ARRAY,
            element_type=DataType.VARCHAR,
            field_id=102,
            type_params={"max_length": "9", "max_capacity": "4"},
        ),
        list_field(),
    ),
    structs=(
        StructSchema(name="clips", field_id=101, description="cut", type_params={"warmup": "sync"}),
    ),
)


def test_a_schema_with_structs_survives_both_ways(stock):
    message = schema_message(STRUCTS)
    kind = "milvus.proto.schema.CollectionSchema"
    read = stock(kind).FromString(message.SerializeToString())
    assert [field.name for field in read.fields] == ["id"]
    [struct] = read.struct_array_fields
    assert (struct.name, struct.fieldID, struct.description) == ("clips", 101, "cut")
    assert [(f.name, f.data_type, f.element_type) for f in struct.fields] == [
        ("word", 22, 21),
        ("emb", 106, 101),
    ]
    assert decode_schema(read.SerializeToString()) == STRUCTS


def test_structs_may_be_null(stock):
    fields = tuple(
        msgspec.structs.replace(field, nullable=True) if field.struct else field
        for field in STRUCTS.fields
    )
    structs = (msgspec.structs.replace(STRUCTS.structs[0], nullable=True),)
    nullable = msgspec.structs.replace(STRUCTS, fields=fields, structs=structs)
    kind = "milvus.proto.schema.CollectionSchema"
    read = stock(kind).FromString(schema_message(nullable).SerializeToString())
    [struct] = read.struct_array_fields
    assert [part.nullable for part in struct.fields] == [True, True]
    assert decode_schema(read.SerializeToString()) == nullable
    for part in struct.fields:
        part.nullable = False  # whoever says it of the struct need not say it of its fields
    assert decode_schema(read.SerializeToString()) == nullable
    rows = pa.record_batch(
        [
            pa.array([1, 2, 3]),
            pa.array([["a"], None, []], pa.list_(pa.string())),
            pa.array([[[1.0] * DIM], None, []], arrow_type(list_field())),
        ],
        names=["id", "clips[word]", "clips[emb]"],
    )
    [_, message] = field_messages(nullable, rows, rows.schema.names)
    words, vectors = stock(FIELD_DATA).FromString(message.SerializeToString()).struct_arrays.fields
    for part in (words, vectors):
        assert list(part.valid_data) == [True, False, True]
    # Each row has its place, null or not.
    assert [len(row.string_data.data) for row in words.scalars.array_data.data] == [1, 0, 0]
    assert [len(row.float_vector.data) for row in vectors.vectors.vector_array.data] == [DIM, 0, 0]


def test_the_columns_of_a_struct_travel_in_one_message(stock):
    rows = pa.record_batch(
        [
            pa.array([1, 2]),
            pa.array([["a", "b"], []], pa.list_(pa.string())),
            pa.array([[[1.0] * DIM, [2.0] * DIM], []], arrow_type(list_field())),
        ],
        names=["id", "clips[word]", "clips[emb]"],
    )
    messages = field_messages(STRUCTS, rows, rows.schema.names)
    assert [(m.field_name, m.type) for m in messages] == [("id", 5), ("clips", 200)]
    read = stock(FIELD_DATA).FromString(messages[1].SerializeToString())
    assert read.field_id == 101
    words, vectors = read.struct_arrays.fields
    assert [list(row.string_data.data) for row in words.scalars.array_data.data] == [["a", "b"], []]
    assert [len(row.float_vector.data) for row in vectors.vectors.vector_array.data] == [32, 0]
    names = [name for name, _ in flattened(messages)]
    assert names == ["id", "clips[word]", "clips[emb]"]
    [only] = field_messages(STRUCTS, rows, ["clips[word]"])
    assert [part.field_name for part in only.struct_arrays.fields] == ["word"]


@pytest.mark.parametrize("kind", list(HOLDER))
def test_a_query_is_a_list_of_vectors(kind):
    random = np.random.default_rng(5)
    if kind is DataType.BINARY_VECTOR:
        lists = [random.integers(0, 256, (n, DIM // 8), np.uint8) for n in (3, 1)]
    elif kind is DataType.INT8_VECTOR:
        lists = [random.integers(-9, 9, (n, DIM)).astype(np.int8) for n in (3, 1)]
    else:
        floats = [random.normal(size=(n, DIM)).astype(np.float32) for n in (3, 1)]
        is_float = kind is DataType.FLOAT_VECTOR
        lists = floats if is_float else [narrowed(each, kind) for each in floats]
    found = VectorLists.of(decode_queries(encode_lists(kind, lists), list_field(kind)))
    assert found.offsets.tolist() == [0, 3, 4]
    plain = lists if kind is DataType.BINARY_VECTOR else [widened(each) for each in lists]
    assert (found.vectors == np.concatenate(plain)).all()


def test_lists_of_float32_serve_narrower_fields():
    floats = np.random.default_rng(6).normal(size=(2, DIM)).astype(np.float32)
    group = encode_lists(DataType.FLOAT_VECTOR, [floats])
    found = VectorLists.of(decode_queries(group, list_field(DataType.FLOAT16_VECTOR)))
    assert (found.vectors == floats.astype(np.float16)).all()


def of_bytes(size):
    value = common.PlaceholderValue(tag="$0", type=301, values=[bytes(size)])
    return common.PlaceholderGroup(placeholders=[value]).SerializeToString()


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (
            encode_queries(DataType.FLOAT_VECTOR, np.zeros((1, DIM), np.float32)),
            r"vector type must be the same, field clips\[emb\]",
        ),
        (
            encode_lists(DataType.INT8_VECTOR, [np.zeros((1, DIM), np.int8)]),
            "search info type EMB_LIST_INT8_VECTOR",
        ),
        (of_bytes(0), r"expected vector size\(byte\) 64, actual 0"),
        (of_bytes(4 * DIM + 4), r"expected vector size\(byte\) 64, actual 68"),
        (
            encode_lists(DataType.FLOAT_VECTOR, [np.full((1, DIM), np.nan, np.float32)]),
            "is not a number or infinity",
        ),
    ],
)
def test_queries_that_are_no_lists_are_refused(group, said):
    with pytest.raises(InvalidParameter, match=said):
        decode_queries(group, list_field())
