"""Properties: text by key. Most are stored as they come; the coordinator checks the others."""

from collections.abc import Mapping

from elanus.errors import InvalidParameter

MMAP = "mmap.enabled"
REPLICA_NUMBER = "collection.replica.number"
DATABASE_REPLICA_NUMBER = "database.replica.number"


def positive_int(properties: Mapping[str, str], key: str) -> int:
    """0 without the key. Raises InvalidParameter for anything but a positive integer."""
    text = properties.get(key)
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise InvalidParameter(f"{key} should be a positive integer, but got {text!r}")
    return int(text)
