"""What is limited, and what the properties of databases and collections say about it."""

from collections.abc import Mapping
from enum import StrEnum

from elanus.errors import InvalidParameter

BYTES_PER_MB = 1 << 20


class Operation(StrEnum):
    """Kinds of requests that have rates of their own; the values are those of Milvus's properties
    where there are some."""

    DATABASE = "database"
    COLLECTION = "collectionDDL"
    PARTITION = "partitionDDL"
    INDEX = "index"
    FLUSH = "flush"
    COMPACTION = "compaction"
    INSERT = "insert"
    UPSERT = "upsert"
    DELETE = "delete"
    IMPORT = "bulkLoad"
    SEARCH = "search"
    QUERY = "query"


WRITES = frozenset({Operation.INSERT, Operation.UPSERT, Operation.DELETE, Operation.IMPORT})
READS = frozenset({Operation.SEARCH, Operation.QUERY})
GROWTH = frozenset({Operation.INSERT, Operation.UPSERT, Operation.IMPORT})
"""Writes that need more room."""

DATABASE_DISK_QUOTA = "database.diskQuota.mb"
COLLECTION_DISK_QUOTA = "collection.diskProtection.diskQuota.mb"
PARTITION_DISK_QUOTA = "partition.diskProtection.diskQuota.mb"

_RATES = {
    Operation.INSERT: ("insertRate", "mb"),
    Operation.UPSERT: ("upsertRate", "mb"),
    Operation.DELETE: ("deleteRate", "mb"),
    Operation.SEARCH: ("searchRate", "vps"),
    Operation.QUERY: ("queryRate", "qps"),
}
_OWNERS = ("collection", "database")
_NUMBERS = frozenset(
    f"{owner}.{rate}.{bound}.{unit}"
    for owner in _OWNERS
    for rate, unit in _RATES.values()
    for bound in ("max", "min")
) | {DATABASE_DISK_QUOTA, COLLECTION_DISK_QUOTA, PARTITION_DISK_QUOTA}


def largest_rate(properties: Mapping[str, str], owner: str, operation: Operation) -> float | None:
    """``<owner>.insertRate.max.mb`` and its like: -1 = no limit, None = says nothing."""
    return _rate(properties, owner, operation, "max")


def least_rate(properties: Mapping[str, str], owner: str, operation: Operation) -> float:
    """The rate that a shortage of memory leaves at least."""
    return max(0.0, _rate(properties, owner, operation, "min") or 0.0)


def disk_quota_mb(properties: Mapping[str, str], key: str, default: float) -> float:
    """Megabytes; below 0 = no limit."""
    value = properties.get(key)
    return default if value is None else float(value)


def denies(properties: Mapping[str, str], operation: Operation) -> bool:
    """Whether a database's properties refuse requests of this kind."""
    if operation in WRITES:
        kinds = ["writing"]
    elif operation in READS:
        kinds = ["reading"]
    else:
        kinds = ["ddl", operation.value]
    return any(
        properties.get(f"database.force.deny.{kind}", "false").strip().lower() == "true"
        for kind in kinds
    )


def check_quota_properties(properties: Mapping[str, str]) -> None:
    """Raises InvalidParameter for a limit that is no number."""
    for key in _NUMBERS & properties.keys():
        value = properties[key]
        try:
            fits = float(value) >= -1
        except ValueError:
            fits = False
        if not fits:
            raise InvalidParameter(
                f"{key} can't be used", expected="a number, -1 for no limit", actual=value
            )


def _rate(
    properties: Mapping[str, str], owner: str, operation: Operation, bound: str
) -> float | None:
    if operation not in _RATES:
        return None
    rate, unit = _RATES[operation]
    value = properties.get(f"{owner}.{rate}.{bound}.{unit}")
    return None if value is None else float(value)
