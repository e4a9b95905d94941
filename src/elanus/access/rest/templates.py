"""``exprParams``, the values for the placeholders of a filter, as the protocol's messages."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from elanus.access.rest.errors import NotJson
from elanus.wire.protocol import pack, schema

_MAX_INT64 = (1 << 63) - 1
_Kinds = set[type]


def encode_templates(values: Mapping[str, Any]) -> dict[str, Any]:
    """``expr_template_values`` of a request: schema.TemplateValue by name."""
    return {name: _value(name, value) for name, value in values.items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return schema.TemplateValue(bool_val=value)
    if isinstance(value, int) and value <= _MAX_INT64:
        return schema.TemplateValue(int64_val=value)
    if isinstance(value, int | float):
        return schema.TemplateValue(float_val=value)
    if isinstance(value, str):
        return schema.TemplateValue(string_val=value)
    if isinstance(value, list):
        return schema.TemplateValue(array_val=array_value(value))
    raise NotJson(f"'exprParams.{name}' should be a scalar or an array")


def array_value(values: list[Any]) -> Any:
    """A schema.TemplateArrayValue; elements of mixed types travel as JSON."""
    kinds: _Kinds = set(map(type, values))
    if kinds == {bool}:
        bits = pack(np.array(values), "?")
        return schema.TemplateArrayValue(bool_data=schema.BoolArray(data=bits))
    if kinds == {int} and max(values) <= _MAX_INT64:
        return schema.TemplateArrayValue(long_data=schema.LongArray(data=values))
    if kinds and kinds <= {int, float}:
        numbers = pack(np.array(values, np.float64), "<f8")
        return schema.TemplateArrayValue(double_data=schema.DoubleArray(data=numbers))
    if kinds == {str}:
        return schema.TemplateArrayValue(string_data=schema.StringArray(data=values))
    if kinds == {list}:
        arrays = schema.TemplateArrayValueArray(data=[array_value(value) for value in values])
        return schema.TemplateArrayValue(array_data=arrays)
    texts = [orjson.dumps(value) for value in values]
    return schema.TemplateArrayValue(json_data=schema.JSONArray(data=texts))
