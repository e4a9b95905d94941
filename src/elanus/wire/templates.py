"""Values for the placeholders of a filter (``age > {limit}``) as plain Python values."""

from collections.abc import Mapping
from typing import Any

import msgspec

from elanus.errors import InvalidParameter
from elanus.wire.protocol import packed

MAX_DEPTH = 16
"""Most levels of arrays within arrays."""


def decode_templates(values: Mapping[str, Any]) -> dict[str, Any]:
    """``expr_template_values`` of a request: bool, int, float, str, bytes, or nested lists of them
    (JSON elements as decoded).

    Raises InvalidParameter, with the name, for a value that is empty or can't be read.
    """
    return {name: _decode_value(value, name) for name, value in sorted(values.items())}


def _decode_value(value: Any, name: str) -> Any:
    kind = value.WhichOneof("val")
    if kind is None:
        raise InvalidParameter(f"the value of the template variable {{{name}}} is empty")
    if kind == "array_val":
        return _decode_array(value.array_val, name, 1)
    return getattr(value, kind)


def _decode_array(array: Any, name: str, depth: int) -> list[Any]:
    if depth > MAX_DEPTH:
        raise InvalidParameter(
            f"the value of the template variable {{{name}}} has more than {MAX_DEPTH} levels"
        )
    kind = array.WhichOneof("data")
    if kind is None:
        return []
    if kind in ("bool_data", "double_data"):
        numbers: list[Any] = packed(getattr(array, kind), "data").tolist()
        return numbers
    if kind == "array_data":
        return [_decode_array(element, name, depth + 1) for element in array.array_data.data]
    if kind == "json_data":
        return [_decode_json(text, name) for text in array.json_data.data]
    return list(getattr(array, kind).data)


def _decode_json(text: bytes, name: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidParameter(
            f"the value of the template variable {{{name}}} is not valid JSON: {error}"
        ) from error
