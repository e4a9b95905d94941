import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from elanus.errors import InvalidParameter
from elanus.wire import protocol
from elanus.wire.protocol import common, milvus, pack, packed, parse, schema

SCHEMA = "milvus.proto.schema."


def test_every_method_of_the_service_has_its_classes():
    methods = protocol.methods()
    assert len(methods) == 144
    assert methods["Insert"].request is milvus.InsertRequest
    assert methods["Insert"].response is milvus.MutationResult
    assert methods["CreateCollection"].response is common.Status
    streaming = {m.name for m in methods.values() if m.client_streaming or m.server_streaming}
    assert streaming == {"CreateReplicateStream", "DumpMessages"}
    for method in methods.values():
        assert method.request.FromString(b"") == method.request()
        assert method.response.FromString(b"") == method.response()


def test_messages_that_travel_in_bytes_fields_are_there():
    assert common.PlaceholderGroup().SerializeToString() == b""
    assert schema.CollectionSchema().SerializeToString() == b""
    with pytest.raises(AttributeError, match="NoSuchThing"):
        _ = schema.NoSuchThing


@pytest.mark.parametrize(
    ("name", "field", "dtype", "values"),
    [
        ("FloatArray", "data", "<f4", [0.0, -1.5, 3.4e38, float("inf")]),
        ("DoubleArray", "data", "<f8", [0.0, -1.5e300, 2.0**-1074]),
        ("BoolArray", "data", "?", [True, False, False, True]),
        ("SearchResultData", "scores", "<f4", [0.25, 0.5]),
        ("FieldData", "valid_data", "?", [False, True]),
    ],
)
@pytest.mark.parametrize("count", [0, None])
def test_views_are_wire_identical_to_the_stock_messages(stock, name, field, dtype, values, count):
    values = values[:count]
    original = stock(SCHEMA + name)(**{field: values}).SerializeToString()
    view_class = protocol.message(SCHEMA + name)

    assert packed(view_class.FromString(original), field).tolist() == pytest.approx(values)
    written = view_class(**{field: pack(np.array(values), dtype)}).SerializeToString()
    assert written == original


def test_floats_that_were_not_packed_are_read_too(stock):
    # Tag 0x0d: field 1 as single 32-bit values, as a sender with packed=false writes them.
    unpacked = b"".join(b"\x0d" + np.float32(x).tobytes() for x in (1.0, 2.0, 3.0))
    assert list(stock(SCHEMA + "FloatArray").FromString(unpacked).data) == [1, 2, 3]
    assert packed(schema.FloatArray.FromString(unpacked), "data").tolist() == [1, 2, 3]


def test_a_packed_field_in_two_pieces_is_joined(stock):
    pieces = b"".join(
        stock(SCHEMA + "FloatArray")(data=part).SerializeToString() for part in ([1, 2], [3])
    )
    assert packed(schema.FloatArray.FromString(pieces), "data").tolist() == [1, 2, 3]


def test_an_empty_packed_field_that_was_written_out_is_empty():
    for view_class in (schema.FloatArray, schema.BoolArray):
        assert packed(view_class.FromString(b"\x0a\x00"), "data").tolist() == []


def test_fields_of_newer_clients_do_no_harm():
    newer = schema.FieldData(field_name="f", valid_data=[b"\x01"]).SerializeToString()
    newer += b"\xa2\x06\x03abc"  # field 100
    assert packed(schema.FieldData.FromString(newer), "valid_data").tolist() == [True]


def test_bools_written_as_longer_varints_are_read_as_protobuf_reads_them(stock):
    data = b"\x0a\x05\x80\x01\x00\x81\x00"
    expected = list(stock(SCHEMA + "BoolArray").FromString(data).data)
    assert expected == [True, False, True]
    assert packed(schema.BoolArray.FromString(data), "data").tolist() == expected


def test_half_a_float_is_refused():
    with pytest.raises(InvalidParameter, match="6 bytes of FloatArray"):
        packed(schema.FloatArray.FromString(b"\x0a\x06abcdef"), "data")
    with pytest.raises(InvalidParameter, match="malformed"):
        packed(schema.BoolArray.FromString(b"\x0a\x01\x80"), "data")


@pytest.mark.parametrize("keep", [1, 5, 40])
def test_a_truncated_message_is_an_input_error_that_names_the_method(keep):
    field = schema.FieldData(field_name="vector", vectors={"dim": 8})
    field.vectors.float_vector.data.append(bytes(320))
    data = milvus.InsertRequest(collection_name="words", fields_data=[field]).SerializeToString()
    with pytest.raises(InvalidParameter, match=f"failed to decode Insert: {keep} bytes") as caught:
        parse(milvus.InsertRequest, data[:keep], "Insert")
    assert caught.value.code == 1100
    assert parse(milvus.InsertRequest, data, "Insert").collection_name == "words"


def test_garbage_and_bad_utf8_are_input_errors():
    for data in (b"\xff" * 50, b"\x1a\x02\xc3\x28"):
        with pytest.raises(InvalidParameter, match="not a valid InsertRequest"):
            parse(milvus.InsertRequest, data, "Insert")


def test_the_private_pool_lives_beside_a_copy_in_the_default_pool():
    """A client in the same process registers the same files; loaded here in a fresh process."""
    code = """
import sys
from google.protobuf import descriptor_pb2, descriptor_pool
from pathlib import Path
import elanus.wire.protocol as protocol
own = protocol.schema.FloatArray
path = Path(protocol.__file__).with_name("_descriptors.binpb")
for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
other = descriptor_pool.Default().FindMessageTypeByName("milvus.proto.schema.FloatArray")
assert other.fields[0].type != own.DESCRIPTOR.fields[0].type
assert "pymilvus" not in sys.modules
print("fine")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "fine\n", run.stderr


def test_the_build_script_reads_generated_modules_without_running_them(tmp_path):
    """Modules that would fail when run, as protoc writes them, give the descriptors in use."""
    root = Path(__file__).parents[3]
    current = Path(protocol.__file__).with_name("_descriptors.binpb")
    files = descriptor_pb2.FileDescriptorSet.FromString(current.read_bytes()).file
    generated = tmp_path / "pymilvus" / "grpc_gen"
    generated.mkdir(parents=True)
    names = {file.name for file in files}
    unrelated = descriptor_pb2.FileDescriptorProto(name="unused.proto", package="unused")
    unrelated.message_type.add(name="NobodyNeedsThis")
    for module in ("common", "rg", "schema", "feder", "msg", "milvus"):
        file = next((f for f in files if f.name == f"{module}.proto"), unrelated)
        text = f"raise SystemExit\nD = pool.Default().AddSerializedFile({file.SerializeToString()})"
        (generated / f"{module}_pb2.py").write_text(text)
    output = tmp_path / "out.binpb"
    subprocess.run(
        [
            sys.executable,
            str(root / "scripts" / "build_descriptors.py"),
            "pymilvus",
            "--package-dir",
            str(tmp_path / "pymilvus"),
            "--output",
            str(output),
        ],
        check=True,
        capture_output=True,
    )
    written = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    assert {file.name for file in written} == names
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
    for file in written:
        pool.AddSerializedFile(file.SerializeToString())
    assert len(pool.FindServiceByName(protocol.SERVICE).methods) == 144
