"""Typed access to the JSON object that a request brings.

A key that is null counts as absent, as does an empty text or list that is required. Keys are found
regardless of case, since the clients of Milvus got used to that (``autoId`` for ``autoID``); the
exact key wins. Every method raises :class:`NotJson` for a value of another type, and those that
require a value raise :class:`MissingParameters`.
"""

from functools import cached_property
from typing import Any, TypeVar

import orjson

from elanus.access.rest.errors import MissingParameters, NotJson
from elanus.rows.texts import as_text, json_name

T = TypeVar("T")


def parse_body(data: bytes) -> "Body":
    """The body of a request. Integers beyond 53 bits are kept exactly."""
    if not data:
        raise NotJson("the body is empty, a JSON object is required")
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise NotJson(str(error)) from error
    if not isinstance(values, dict):
        raise NotJson(f"the body should be an object, not {json_name(values)}")
    return Body(values)


def as_texts(values: dict[str, Any]) -> dict[str, str]:
    """Properties or parameters as the protocol's text pairs; null ones are left out."""
    return {key: as_text(value) for key, value in values.items() if value is not None}


class Body:
    """A JSON object. ``path`` says where it stands in the request, for messages."""

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self.values = values
        self._path = path

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def get(self, key: str) -> Any:
        """The value as it is; None if it is absent."""
        if key in self.values:
            return self.values[key]
        actual = self._keys_by_lower_case.get(key.lower())
        return None if actual is None else self.values[actual]

    def text(self, key: str, default: str = "") -> str:
        return self._typed(key, str, "a string", default)

    def flag(self, key: str, default: bool = False) -> bool:
        return self._typed(key, bool, "a boolean", default)

    def integer(self, key: str, default: int) -> int:
        value = self._typed(key, int, "an integer", default)
        if isinstance(value, bool):
            raise self._mistyped(key, "an integer", value)
        return value

    def array(self, key: str) -> list[Any]:
        return self._typed(key, list, "an array", [])

    def mapping(self, key: str) -> dict[str, Any]:
        return self._typed(key, dict, "an object", {})

    def texts(self, key: str) -> list[str]:
        values = self.array(key)
        for value in values:
            if not isinstance(value, str):
                raise self._mistyped(key, "an array of strings", value)
        return values

    def part(self, key: str) -> "Body":
        return Body(self.mapping(key), f"{self._path}{key}.")

    def parts(self, key: str) -> "list[Body]":
        values = self.array(key)
        for value in values:
            if not isinstance(value, dict):
                raise self._mistyped(key, "an array of objects", value)
        return [Body(value, f"{self._path}{key}[{n}].") for n, value in enumerate(values)]

    def required_text(self, key: str) -> str:
        return self._required(key, self.text(key))

    def required_texts(self, key: str) -> list[str]:
        return self._required(key, self.texts(key))

    def required_array(self, key: str) -> list[Any]:
        return self._required(key, self.array(key))

    def required_mapping(self, key: str) -> dict[str, Any]:
        return self._required(key, self.mapping(key))

    def required_objects(self, key: str) -> "list[Body]":
        return self._required(key, self.parts(key))

    @cached_property
    def _keys_by_lower_case(self) -> dict[str, str]:
        return {key.lower(): key for key in self.values}

    def _typed(self, key: str, wanted: type[T], article_and_name: str, default: T) -> T:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, wanted):
            raise self._mistyped(key, article_and_name, value)
        return value

    def _mistyped(self, key: str, wanted: str, value: object) -> NotJson:
        return NotJson(f"'{self._path}{key}' should be {wanted}, but got {json_name(value)}")

    def _required(self, key: str, value: T) -> T:
        if not value:
            raise MissingParameters(f"the key '{self._path}{key}' is required")
        return value
