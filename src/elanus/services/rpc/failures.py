"""Errors between roles: an ElanusError arrives as what it was raised as, with all it knows.

They travel as the value of an answer and not as a gRPC status: the status is left for what happens
between the two processes.
"""

from typing import Any

import msgspec

import elanus.errors
from elanus.errors import ElanusError, InternalError

_KINDS: dict[str, type[ElanusError]] = {
    name: found
    for name, found in vars(elanus.errors).items()
    if isinstance(found, type) and issubclass(found, ElanusError)
}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: the error's class, then its bases up to ElanusError: a receiver that doesn't know
    the first takes the next. ``details``: its other attributes."""

    kind: tuple[str, ...]
    message: str
    details: dict[str, Any] = {}


def failure_of(error: ElanusError) -> Failure:
    bases = [base for base in type(error).__mro__ if issubclass(base, ElanusError)]
    details = {name: value for name, value in vars(error).items() if name != "message"}
    return Failure(
        kind=tuple(base.__name__ for base in bases), message=error.message, details=details
    )


def error_of(failure: Failure) -> ElanusError:
    kind = next((_KINDS[name] for name in failure.kind if name in _KINDS), InternalError)
    # Constructors compose messages; this one is composed.
    error = kind.__new__(kind, failure.message)
    ElanusError.__init__(error, failure.message)
    vars(error).update(failure.details)
    return error
