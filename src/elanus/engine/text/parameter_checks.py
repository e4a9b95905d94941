"""What the parameters of all parts of an analyzer are checked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from elanus.errors import InvalidParameter

Parameters = Mapping[str, Any]


def words_of(parameters: Parameters, key: str, default: Sequence[str]) -> Sequence[str]:
    words = parameters.get(key, default)
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise InvalidParameter(f"analyzer {key} must be a list of strings, but is {words!r}")
    return words


def check_keys(parameters: Parameters, known: Sequence[str]) -> None:
    for key in parameters:
        if key not in known:
            raise InvalidParameter(
                f"unknown analyzer option key: {key}", expected=", ".join(known), actual=key
            )
