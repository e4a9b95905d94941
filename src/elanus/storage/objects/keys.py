"""Which keys an object may have. The same rule for every backend, so that data can be moved."""

from elanus.errors import InternalError

MAX_KEY_BYTES = 1_024


def check_key(key: str) -> str:
    """``key``, if it is a relative path of plain names. Raises InternalError."""
    parts = key.split("/")
    plain = all(part and not part.startswith(".") and part.isprintable() for part in parts)
    if not plain or "\\" in key or len(key.encode()) > MAX_KEY_BYTES:
        raise InternalError(f"{key!r} can't be an object's key")
    return key
