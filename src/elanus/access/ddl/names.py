"""Names of databases, collections, aliases, partitions, fields and indexes: what is allowed.

A name is trimmed of blanks first; the trimmed name is what counts.
"""

import re
from functools import lru_cache

from elanus.errors import InvalidDatabaseName, InvalidFieldName, InvalidParameter, Rejected

KEPT_NAMES = 1_024
"""Of collections, which every request names."""

_FIRST = re.compile(r"[A-Za-z_]")
_WORD = re.compile(r"[A-Za-z0-9_]*\Z")
_PARTITION_FIRST = re.compile(r"[A-Za-z0-9_]")
_PARTITION_WORD = re.compile(r"[A-Za-z0-9_\-]*\Z")
_INDEX_WORD = re.compile(r"[A-Za-z0-9_\[\]]*\Z")

KEYWORDS = frozenset(
    (
        "and",
        "or",
        "not",
        "in",
        "like",
        "exists",
        "is",
        "null",
        "true",
        "false",
        "json_contains",
        "json_contains_all",
        "json_contains_any",
        "array_contains",
        "array_contains_all",
        "array_contains_any",
        "array_length",
        "text_match",
        "phrase_match",
        "random_sample",
        "interval",
        "iso",
    )
)
"""Words of the filter language, in lower case; they can't name a field."""


def _fault(name: str, kind: str, max_length: int, article: str = "a") -> str | None:
    """What is wrong with a name in Milvus's words, or None."""
    if len(name.encode()) > max_length:
        return f"the length of {article} {kind} must be less than {max_length} characters"
    if not _FIRST.match(name):
        return f"the first character of {article} {kind} must be an underscore or letter"
    if not _WORD.match(name):
        return f"{kind} can only contain numbers, letters and underscores"
    return None


@lru_cache(maxsize=KEPT_NAMES)
def collection_name(name: str, max_length: int, kind: str = "collection name") -> str:
    """The trimmed name. Raises InvalidParameter."""
    name = name.strip()
    if not name:
        raise InvalidParameter(f"{kind} should not be empty")
    fault = _fault(name, kind, max_length)
    if fault:
        raise InvalidParameter(f"Invalid {kind}: {name}. {fault}")
    return name


def alias_name(name: str, max_length: int) -> str:
    """The trimmed alias. Raises InvalidParameter."""
    return collection_name(name, max_length, "collection alias")


def database_name(name: str, max_length: int) -> str:
    """The trimmed name. Raises InvalidDatabaseName."""
    name = name.strip()
    if not name:
        raise InvalidDatabaseName("database name should not be empty", name)
    fault = _fault(name, "database name", max_length)
    if fault:
        raise InvalidDatabaseName(fault, name)
    return name


def field_name(name: str, max_length: int) -> None:
    """Raises InvalidFieldName."""
    if not name.strip():
        raise InvalidFieldName("field name should not be empty", name)
    fault = _fault(name, "field name", max_length)
    if fault:
        raise InvalidFieldName(f"Invalid field name: {name}. {fault}", name)
    if name.lower() in KEYWORDS:
        raise InvalidFieldName(f"Invalid field name: {name}. {name} is keyword in milvus.", name)


def partition_name(name: str, max_length: int) -> str:
    """The trimmed name. Raises Rejected."""
    name = name.strip()
    prefix = f"Invalid partition name: {name}. "
    if not name:
        raise Rejected(prefix + "Partition name should not be empty.")
    if len(name.encode()) > max_length:
        raise Rejected(
            f"{prefix}The length of a partition name must be less than {max_length} characters."
        )
    if not _PARTITION_FIRST.match(name):
        raise Rejected(
            f"{prefix}The first character of a partition name must be an underscore or letter."
        )
    if not _PARTITION_WORD.match(name):
        raise Rejected(f"{prefix}Partition name can only contain numbers, letters and underscores.")
    return name


def index_name(name: str, max_length: int) -> str:
    """The trimmed name. Raises InvalidParameter."""
    name = name.strip()
    prefix = f"Invalid index name: {name}. "
    if len(name.encode()) > max_length:
        raise InvalidParameter(
            f"{prefix}the length of an index name must be less than {max_length} characters"
        )
    if not _FIRST.match(name):
        raise InvalidParameter(
            f"{prefix}the first character of an index name must be an underscore or letter"
        )
    if not _INDEX_WORD.match(name):
        raise InvalidParameter(
            f"{prefix}index name can only contain numbers, letters, underscores and brackets"
        )
    return name
