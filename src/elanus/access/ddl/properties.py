"""Properties: text by key. Most are stored as they come; the coordinator checks the others."""

from collections.abc import Mapping

from elanus.errors import InvalidParameter

MMAP = "mmap.enabled"
REPLICA_NUMBER = "collection.replica.number"
DATABASE_REPLICA_NUMBER = "database.replica.number"
RESOURCE_GROUPS = "collection.resource_groups"
DATABASE_RESOURCE_GROUPS = "database.resource_groups"


def positive_int(properties: Mapping[str, str], key: str) -> int:
    """0 without the key. Raises InvalidParameter for anything but a positive integer."""
    text = properties.get(key)
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise InvalidParameter(f"{key} should be a positive integer, but got {text!r}")
    return int(text)


def text_list(properties: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Names with commas in between; nothing without the key."""
    return tuple(name.strip() for name in properties.get(key, "").split(",") if name.strip())
