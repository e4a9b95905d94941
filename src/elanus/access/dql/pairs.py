"""Key-value parameters of a request: strings on the wire, typed here.

The REST and gRPC clients write numbers and booleans as text (``10``, ``True``); what cannot
be read is the user's error and is named with its key and value.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from elanus.errors import ElanusError, InvalidParameter, Rejected, Unimplemented

_TRUE = frozenset({"true", "1", "t"})
_FALSE = frozenset({"false", "0", "f", ""})


def read_int(text: str, message: str) -> int:
    """Raises Rejected(``message``) if ``text`` is not a decimal integer."""
    try:
        return int(text)
    except ValueError as error:
        raise Rejected(message) from error


def read_bool(text: str, failure: Callable[[], ElanusError]) -> bool:
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise failure()


def read_flag(pairs: Mapping[str, str], key: str) -> bool:
    """A boolean that is False when absent."""
    text = pairs.get(key)
    if text is None:
        return False
    return read_bool(text, lambda: Rejected(f"parse {key.replace('_', ' ')} field failed"))


def read_object(text: str, key: str) -> dict[str, Any]:
    """A JSON object; blank text is an empty one."""
    if not text.strip():
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(f"{key} is not valid JSON: {text}") from error
    if not isinstance(value, dict):
        raise InvalidParameter(f"{key} should be a JSON object: {text}")
    return value


def read_loose(text: str) -> Any:
    """A value of an open set of parameters: what its JSON says, or the text itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"True": True, "False": False}.get(text, text)


def refuse(pairs: Mapping[str, Any], keys: Iterable[str], action: str) -> None:
    """Raises Unimplemented for the first of ``keys`` that is set."""
    for key in keys:
        if pairs.get(key) not in (None, "", [], "[]"):
            raise Unimplemented(f"{key} is not supported in {action} yet: service unimplemented")
