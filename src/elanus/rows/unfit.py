"""What is raised for a JSON value that can't be one of its field, and for the rows with it."""

from typing import Any

from elanus.errors import InputError


class Unfit(Exception):
    """The value at ``position`` does not fit ``expected``."""

    def __init__(self, position: int, expected: str, actual: Any) -> None:
        super().__init__(f"value {position} is not {expected}")
        self.position = position
        self.expected = expected
        self.actual = actual


class InsertDataError(InputError):
    """The rows of an insert or upsert don't fit the collection's schema."""

    code = 1804

    def __init__(self, reason: str) -> None:
        super().__init__(f"fail to deal the insert data, error: {reason}")
