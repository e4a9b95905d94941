import pytest

from elanus.errors import InvalidParameter
from elanus.wire.protocol import milvus, schema
from elanus.wire.templates import MAX_DEPTH, decode_templates


def test_values_of_all_kinds_become_python_values(stock):
    request = stock("milvus.proto.milvus.SearchRequest")()
    values = request.expr_template_values
    values["flag"].bool_val = False
    values["limit"].int64_val = -(2**63)
    values["ratio"].float_val = 0.1
    values["name"].string_val = "größe"
    values["flags"].array_val.bool_data.data.extend([True, False])
    values["ids"].array_val.long_data.data.extend([1, 2**62])
    values["ratios"].array_val.double_data.data.extend([0.5, 1.5])
    values["names"].array_val.string_data.data.extend(["a", ""])
    values["none"].array_val.SetInParent()
    nested = values["nested"].array_val.array_data.data
    nested.add().long_data.data.extend([1])
    nested.add().string_data.data.extend(["x"])
    values["mixed"].array_val.json_data.data.extend([b'{"a": [1]}', b'"s"', b"2"])

    read = milvus.SearchRequest.FromString(request.SerializeToString())
    assert decode_templates(read.expr_template_values) == {
        "flag": False,
        "limit": -(2**63),
        "ratio": 0.1,
        "name": "größe",
        "flags": [True, False],
        "ids": [1, 2**62],
        "ratios": [0.5, 1.5],
        "names": ["a", ""],
        "none": [],
        "nested": [[1], ["x"]],
        "mixed": [{"a": [1]}, "s", 2],
    }


def test_values_that_cannot_be_used_are_named():
    with pytest.raises(InvalidParameter, match=r"\{x\} is empty"):
        decode_templates({"x": schema.TemplateValue()})
    bad_json = schema.TemplateValue(array_val={"json_data": {"data": [b"{"]}})
    with pytest.raises(InvalidParameter, match=r"\{x\} is not valid JSON"):
        decode_templates({"x": bad_json})
    deep = schema.TemplateValue()
    level = deep.array_val
    for _ in range(MAX_DEPTH + 1):
        level = level.array_data.data.add()
    with pytest.raises(InvalidParameter, match="more than 16 levels"):
        decode_templates({"x": deep})
