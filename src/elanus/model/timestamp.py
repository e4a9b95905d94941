"""Hybrid timestamps: physical milliseconds and a logical counter in one unsigned 64-bit integer.

The layout is Milvus's: ``physical_ms << 18 | logical``. A timestamp orders every write and names
every read's instant (its MVCC timestamp).
"""

LOGICAL_BITS = 18
LOGICAL_LIMIT = 1 << LOGICAL_BITS
MAX_TIMESTAMP = (1 << 64) - 1


def compose(physical_ms: int, logical: int = 0) -> int:
    """The timestamp at ``physical_ms`` since the Unix epoch with the given logical counter."""
    return (physical_ms << LOGICAL_BITS) | logical


def physical_ms(timestamp: int) -> int:
    """Milliseconds since the Unix epoch."""
    return timestamp >> LOGICAL_BITS
