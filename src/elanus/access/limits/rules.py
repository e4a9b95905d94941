"""Which requests are limited: by method, the kind of operation and how much of it one request is.

Amounts are megabytes of writes, vectors of searches, and numbers of everything else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from elanus.model.quotas import BYTES_PER_MB, Operation


def _one(request: Any) -> float:
    return 1.0


def _megabytes(request: Any) -> float:
    return float(request.ByteSize()) / BYTES_PER_MB


def _vectors(request: Any) -> float:
    return float(max(1, request.nq))


def _vectors_of_all(request: Any) -> float:
    return sum(map(_vectors, request.requests)) or 1.0


def _nothing(request: Any) -> Sequence[str]:
    return ()


def _its_collection(request: Any) -> Sequence[str]:
    return (request.collection_name,)


def _its_collections(request: Any) -> Sequence[str]:
    return tuple(request.collection_names)


def _its_partition(request: Any) -> Sequence[str]:
    return (request.partition_name,) if request.partition_name else ()


def _its_partitions(request: Any) -> Sequence[str]:
    return tuple(request.partition_names)


@dataclass(frozen=True, slots=True)
class Rule:
    """``collections`` and ``partitions`` give the names of those whose own limits count too."""

    operation: Operation
    amount: Callable[[Any], float] = _one
    collections: Callable[[Any], Sequence[str]] = _nothing
    partitions: Callable[[Any], Sequence[str]] = _nothing
    is_write: bool = False


def _write(operation: Operation) -> Rule:
    return Rule(operation, _megabytes, _its_collection, _its_partition, is_write=True)


def _rules(operation: Operation, *methods: str) -> dict[str, Rule]:
    return dict.fromkeys(methods, Rule(operation))


RULES: dict[str, Rule] = {
    **_rules(Operation.DATABASE, "CreateDatabase", "DropDatabase", "AlterDatabase"),
    **_rules(
        Operation.COLLECTION,
        "CreateCollection",
        "DropCollection",
        "LoadCollection",
        "ReleaseCollection",
    ),
    **_rules(
        Operation.PARTITION,
        "CreatePartition",
        "DropPartition",
        "LoadPartitions",
        "ReleasePartitions",
    ),
    **_rules(Operation.INDEX, "CreateIndex", "DropIndex"),
    **_rules(Operation.COMPACTION, "ManualCompaction"),
    "Flush": Rule(Operation.FLUSH, collections=_its_collections),
    "FlushAll": Rule(Operation.FLUSH),
    "Insert": _write(Operation.INSERT),
    "Upsert": _write(Operation.UPSERT),
    "Delete": _write(Operation.DELETE),
    "Import": _write(Operation.IMPORT),
    "Search": Rule(Operation.SEARCH, _vectors, _its_collection, _its_partitions),
    "HybridSearch": Rule(Operation.SEARCH, _vectors_of_all, _its_collection, _its_partitions),
    "Query": Rule(Operation.QUERY, _one, _its_collection, _its_partitions),
}
