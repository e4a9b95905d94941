"""What an error of the obstore package means: may the request succeed later, and why not now.

Its exceptions say it in text only: the status and code that the store answered, or how the
connection failed. Of that text nothing is passed on but these: it also holds signed addresses, and
some stores repeat what was signed and by whom.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

REFUSED_TO_USER = (401, 403)
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
NOT_IMPLEMENTED = 501
INSUFFICIENT_STORAGE = 507

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_SYSTEM_MESSAGE = re.compile(r'(?:message|error): "([^"\n]{1,200})"')
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")

_MISSING_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"}
_FULL = {
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "QuotaExceeded",
    "AccountQuotaExceeded",
    "ServiceQuotaExceeded",
}
# What the store says of a request that came damaged, too slowly, or at a bad moment.
_PASSING = {
    "SlowDown",
    "RequestTimeout",
    "XAmzContentSHA256Mismatch",
    "BadDigest",
    "IncompleteBody",
    "Md5Mismatch",
    "OperationAborted",
    "ConditionalRequestConflict",
    "RequestTimeTooSkewed",
}


class Kind(Enum):
    PASSING = auto()
    MISSING = auto()
    TAKEN = auto()
    CHANGED = auto()
    OUT_OF_RANGE = auto()
    NO_BUCKET = auto()
    DENIED = auto()
    FULL = auto()
    UNSUPPORTED = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    kind: Kind
    reason: str

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.kind is Kind.PASSING


class RequestFailed(Exception):
    """A request that is not to be sent again; never leaves the object stores."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def understand(error: BaseError | OSError) -> Failure:
    """What ``error``, raised by obstore or by a timeout of ours, means."""
    text = str(error)
    if isinstance(error, TimeoutError):
        return Failure(Kind.PASSING, "no answer in time")
    status = _STATUS.search(text)
    code = _CODE.search(text)
    if status is None:
        return Failure(_kind_by_type(error), _connection_reason(text))
    name = code.group(1) if code else ""
    kind = _kind_by_answer(error, int(status.group(1)), name)
    return Failure(kind, f"the store answered {status.group(1)} {name}".rstrip())


def _kind_by_answer(error: BaseError | OSError, status: int, code: str) -> Kind:
    if code in _MISSING_BUCKET:
        return Kind.NO_BUCKET
    if code in _FULL or status == INSUFFICIENT_STORAGE:
        return Kind.FULL
    if code in _PASSING or status == TOO_MANY_REQUESTS:
        return Kind.PASSING
    if code == "InvalidRange":
        return Kind.OUT_OF_RANGE
    if status in REFUSED_TO_USER:
        return Kind.DENIED
    if status == NOT_IMPLEMENTED:
        return Kind.UNSUPPORTED
    if status >= SERVER_ERROR:
        return Kind.PASSING
    return _kind_by_type(error, otherwise=Kind.REFUSED)


def _kind_by_type(error: BaseError | OSError, otherwise: Kind = Kind.PASSING) -> Kind:
    match error:
        case FileNotFoundError():
            return Kind.MISSING
        case AlreadyExistsError():
            return Kind.TAKEN
        case PreconditionError():
            return Kind.CHANGED
        case PermissionDeniedError() | UnauthenticatedError():
            return Kind.DENIED
        case NotSupportedError() | InvalidPathError():
            return Kind.UNSUPPORTED
        case _:
            return otherwise


def _connection_reason(text: str) -> str:
    certificate = _CERTIFICATE.search(text)
    if certificate:
        return f"the store's certificate is not trusted ({certificate.group(1)})"
    if "kind: Timeout" in text or "TimedOut" in text:
        return "no answer in time"
    if "IncompleteMessage" in text or "IncompleteBody" in text:
        return "the connection was closed before the answer was complete"
    message = _SYSTEM_MESSAGE.search(text)
    if message:
        return message.group(1)
    return text.partition("\n")[0].rpartition(" - ")[2]
