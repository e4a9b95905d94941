"""What a failed call of etcd means: whether it was done, whether to try again, what to tell.

etcd says what went wrong by a status code and a fixed text. What is not in the table below and is
no failure of the connection is refused for good.
"""

from enum import Enum, auto

import grpc

from elanus.errors import (
    CorruptData,
    DiskFull,
    ElanusError,
    InternalError,
    ParameterTooLarge,
    Unavailable,
)
from elanus.storage.meta.base import LeaseEnded


class Verdict(Enum):
    TOKEN_ENDED = auto()
    """Not done: log in again, then try again."""
    NOT_DONE = auto()
    """Not done: try again."""
    UNKNOWN = auto()
    """Done, or not, or still to be done: try again if that does no harm."""
    REFUSED = auto()
    """Not done, and the next attempt would fail too."""


class OutcomeUnknown(Unavailable):
    """A change was sent, and no answer came."""


class HistoryCompacted(Unavailable):
    """A read named a revision that is no longer kept."""


class ResponseTooLarge(InternalError):
    """More than we receive in one message: ask for less."""


_TOKEN_ENDED = ("invalid auth token", "revision of auth store is old")
_CONNECTION_FAILURES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


def details_of(error: grpc.aio.AioRpcError) -> str:
    return str(error.details() or error.code().name)


def verdict_on(error: grpc.aio.AioRpcError) -> Verdict:
    details = details_of(error)
    if any(text in details for text in _TOKEN_ENDED):
        return Verdict.TOKEN_ENDED
    if "too many requests" in details:
        return Verdict.NOT_DONE
    if "corrupt" in details:
        return Verdict.REFUSED
    if error.code() in _CONNECTION_FAILURES:
        return Verdict.UNKNOWN
    return Verdict.REFUSED


def translate(error: grpc.aio.AioRpcError, where: str, user: str) -> ElanusError:
    """The error to raise for a refused call; ``where`` names etcd, ``user`` who we are there."""
    details = details_of(error)
    code = error.code()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "space exceeded" in details:
            return DiskFull(where)
        return ResponseTooLarge(f"{where}: {details}")
    if "lease not found" in details:
        return LeaseEnded()
    if "has been compacted" in details:
        return HistoryCompacted(f"{where}: {details}")
    if "request is too large" in details:
        return ParameterTooLarge(f"{where} refuses a metadata transaction: {details}")
    if "authentication failed" in details:
        return Unavailable(
            f"{where} does not know user {user} with the password of etcd.auth.password"
        )
    if "authentication is not enabled" in details:
        return Unavailable(f"{where} has no authentication, but etcd.auth.enabled is true")
    if "user name is empty" in details:
        return Unavailable(
            f"{where} wants a user and a password: set etcd.auth.enabled, etcd.auth.userName "
            f"and etcd.auth.password"
        )
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return permission_denied(where, user)
    if code is grpc.StatusCode.DATA_LOSS or "corrupt" in details:
        return CorruptData(f"{where} reports damage: {details}")
    return InternalError(f"{where} refuses a request: {code.name}: {details}")


def permission_denied(where: str, user: str) -> Unavailable:
    return Unavailable(
        f"{where} denies user {user} access: grant a role with readwrite on the prefix "
        f"of etcd.rootPath"
    )
