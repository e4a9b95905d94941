"""What is raised for a JSON value that can't be one of its field."""

from typing import Any


class Unfit(Exception):
    """The value at ``position`` does not fit ``expected``."""

    def __init__(self, position: int, expected: str, actual: Any) -> None:
        super().__init__(f"value {position} is not {expected}")
        self.position = position
        self.expected = expected
        self.actual = actual
