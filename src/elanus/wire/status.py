"""The outcome of a request in Milvus's words. Errors are translated here and nowhere else.

A failure sets both the code and the legacy ``error_code``, as clients differ in which they test.
"""

from typing import Any

from google.protobuf.message import Message

from elanus.errors import ElanusError
from elanus.wire.protocol import common

UNEXPECTED_CODE = 65535
_UNEXPECTED_LEGACY = 1
_STATUS_NAME = "milvus.proto.common.Status"

# Legacy error_code of each code that has one of its own.
_LEGACY = {
    1: 56,  # NotReadyServe
    3: 52,  # InsufficientMemoryToLoad
    7: 54,  # DiskQuotaExhausted
    8: 49,  # RateLimit
    9: 48,  # ForceDeny
    11: 55,  # TimeTickLongDelay
    100: 4,  # CollectionNotExists, but see respond()
    109: 62,  # SchemaMismatch
    200: 15,  # MetaFailed
    400: 15,
    401: 46,  # NoReplicaAvailable
    501: 15,
    503: 46,
    600: 47,  # SegmentNotFound
    700: 25,  # IndexNotExist
    904: 50,  # NodeIDNotMatch
    905: 46,
    1100: 5,  # IllegalArgument
}


def legacy_code(code: int) -> int:
    """The ``error_code`` of old clients for a code; never 0 (success)."""
    return _LEGACY.get(code, _UNEXPECTED_LEGACY)


def success() -> Any:
    """A Status of a request that went well."""
    return common.Status()


def failure(error: Exception) -> Any:
    """The Status that tells of ``error``.

    An exception outside the error tree is a defect of the server: it gets code 65535.
    """
    if isinstance(error, ElanusError):
        status = common.Status(
            code=error.code,
            error_code=legacy_code(error.code),
            reason=error.message,
            retriable=error.retriable,
            detail=error.message,
        )
        if error.input_error:
            status.extra_info["is_input_error"] = "true"
        return status
    reason = f"{type(error).__name__}: {error}"
    return common.Status(
        code=UNEXPECTED_CODE, error_code=_UNEXPECTED_LEGACY, reason=reason, detail=reason
    )


def respond(response_class: Any, error: Exception) -> Any:
    """A response of ``response_class`` that carries ``error``, whether the response is a bare
    Status or a message with a ``status``.

    Raises TypeError for a response that has no place for a status.
    """
    if response_class.DESCRIPTOR.full_name == _STATUS_NAME:
        return failure(error)
    if not carries_status(response_class):
        raise TypeError(f"{response_class.DESCRIPTOR.full_name} carries no status") from error
    status = failure(error)
    if response_class.DESCRIPTOR.name == "DescribeCollectionResponse" and status.code == 100:
        # The one RPC that says so with the general code, which clients have come to test.
        status.error_code = _UNEXPECTED_LEGACY
    return response_class(status=status)


def carries_status(response_class: Any) -> bool:
    """Whether a response is, or embeds, a Status."""
    descriptor = response_class.DESCRIPTOR
    if descriptor.full_name == _STATUS_NAME:
        return True
    field = descriptor.fields_by_name.get("status")
    return field is not None and field.message_type.full_name == _STATUS_NAME


def status_of(response: Message) -> Any:
    """The Status that a response is or embeds."""
    if response.DESCRIPTOR.full_name == _STATUS_NAME:
        return response
    return response.status  # type: ignore[attr-defined]
