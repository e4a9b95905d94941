"""The errors that only the RESTful API has."""

from typing import Any

from elanus.errors import ElanusError, InputError


class NotJson(InputError):
    """The body can't be read, or a value in it has another type than its key wants."""

    code = 1801

    def __init__(self, reason: str) -> None:
        super().__init__(f"can only accept json format request, error: {reason}")


class MissingParameters(InputError):
    code = 1802

    def __init__(self, reason: str) -> None:
        super().__init__(f"missing required parameters, error: {reason}")


class PrimaryKeyError(InputError):
    """An id that is not a primary key of the collection."""

    code = 1806

    def __init__(self, reason: str) -> None:
        super().__init__(f"fail to check primary key, error: {reason}")


class RpcFailure(ElanusError):
    """The failure that an RPC answered, with its own code."""

    def __init__(self, status: Any) -> None:
        super().__init__(status.reason)
        self.code = status.code
