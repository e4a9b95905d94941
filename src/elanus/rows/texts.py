"""JSON values as text, and what to call them in messages."""

import orjson

_JSON_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


def json_name(value: object) -> str:
    """What JSON calls a value: ``object``, ``number``, …"""
    return _JSON_NAMES.get(type(value), "number")


def as_text(value: object) -> str:
    """A value where the protocol wants text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
