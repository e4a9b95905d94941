"""Which shard and which partition a row belongs to.

The hashes are part of the data's layout and the same as Milvus's: murmur3 (x86, 32 bits, seed 0)
over the eight little-endian bytes of an Int64, with the sign bit cleared; CRC-32 over the first 100
bytes of a VarChar. Rows keep their order within a target.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.model.catalog import CollectionInfo, PartitionInfo

HASHED_BYTES = 100
_C1 = np.uint32(0xCC9E2D51)
_C2 = np.uint32(0x1B873593)
_MULTIPLIER = np.uint32(5)
_ADDEND = np.uint32(0xE6546B64)
_FINAL_1 = np.uint32(0x85EBCA6B)
_FINAL_2 = np.uint32(0xC2B2AE35)

UInt32Array = npt.NDArray[np.uint32]


def hash_int64(values: npt.NDArray[np.int64]) -> UInt32Array:
    """31-bit hashes of int64 ``values`` (rows,)."""
    words = np.ascontiguousarray(values, dtype="<i8").view("<u4").reshape(-1, 2)
    state = np.zeros(len(words), dtype=np.uint32)
    for word in (words[:, 0], words[:, 1]):
        mixed = _rotate(word * _C1, 15) * _C2
        state = _rotate(state ^ mixed, 13) * _MULTIPLIER + _ADDEND
    state ^= np.uint32(8)
    state ^= state >> np.uint32(16)
    state *= _FINAL_1
    state ^= state >> np.uint32(13)
    state *= _FINAL_2
    state ^= state >> np.uint32(16)
    return state & np.uint32(0x7FFFFFFF)


def _rotate(values: UInt32Array, bits: int) -> UInt32Array:
    return (values << np.uint32(bits)) | (values >> np.uint32(32 - bits))


def hash_strings(values: pa.Array) -> UInt32Array:
    """32-bit hashes of the strings of an Arrow string array (rows,)."""
    return np.fromiter(
        (zlib.crc32(value[:HASHED_BYTES]) for value in values.cast(pa.binary()).to_pylist()),
        dtype=np.uint32,
        count=len(values),
    )


def hash_keys(keys: pa.Array) -> UInt32Array:
    """Hashes of primary or partition keys: an int64 or string Arrow array without nulls."""
    if pa.types.is_int64(keys.type):
        return hash_int64(keys.to_numpy())
    return hash_strings(keys)


def bucket_of(keys: pa.Array, buckets: int) -> npt.NDArray[np.int64]:
    """The shard (or key partition) number of each key, 0 … ``buckets`` - 1."""
    if buckets == 1:
        return np.zeros(len(keys), dtype=np.int64)
    return (hash_keys(keys) % np.uint32(buckets)).astype(np.int64)


def key_partitions(partitions: Sequence[PartitionInfo]) -> list[PartitionInfo]:
    """The partitions of a collection with a partition key, by the number at the end of their
    names: bucket i of the key's hash is the i-th."""
    return sorted(partitions, key=lambda partition: int(partition.name.rsplit("_", 1)[1]))


def group_rows(targets: npt.NDArray[np.int64]) -> list[tuple[int, npt.NDArray[np.int64] | None]]:
    """(target, row numbers) for each target that occurs, ascending; None for the row numbers
    means all rows, so that nothing needs to be copied when there is one target."""
    if not len(targets):
        return []
    if (targets == targets[0]).all():
        return [(int(targets[0]), None)]
    order = np.argsort(targets, kind="stable")
    found, starts = np.unique(targets[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, starts[1:]), strict=True))


def split_rows(
    rows: pa.RecordBatch,
    shard_of_row: npt.NDArray[np.int64],
    partition_of_row: npt.NDArray[np.int64],
) -> list[tuple[int, list[tuple[int, pa.RecordBatch]]]]:
    """``rows`` by shard and, within a shard, by partition: (shard, [(partition, rows), …]), both
    ascending. ``shard_of_row`` and ``partition_of_row`` are int64 (rows,)."""
    result = []
    for shard, members in group_rows(shard_of_row):
        partitions = partition_of_row if members is None else partition_of_row[members]
        parts = []
        for partition, selected in group_rows(partitions):
            chosen = members if selected is None else _compose(members, selected)
            parts.append((partition, take(rows, chosen)))
        result.append((shard, parts))
    return result


def _compose(
    outer: npt.NDArray[np.int64] | None, inner: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    return inner if outer is None else outer[inner]


def take(rows: pa.RecordBatch, members: npt.NDArray[np.int64] | None) -> Any:
    """The rows of the numbers ``members``; ``rows`` itself for None."""
    return rows if members is None else rows.take(pa.array(members))


def route(
    collection: CollectionInfo, rows: pa.RecordBatch, partition_id: int | None
) -> list[tuple[int, list[tuple[int, pa.RecordBatch]]]]:
    """Complete ``rows`` by shard and partition, as :func:`split_rows`. ``partition_id``: of all
    rows; None: by the partition key."""
    schema = collection.schema
    shards = bucket_of(rows.column(schema.primary.name), len(collection.vchannels))
    if partition_id is not None:
        return [
            (shard, [(partition_id, take(rows, members))]) for shard, members in group_rows(shards)
        ]
    assert schema.partition_key is not None
    partitions = key_partitions(collection.partitions)
    buckets = bucket_of(rows.column(schema.partition_key.name), len(partitions))
    ids = np.array([partition.partition_id for partition in partitions], dtype=np.int64)
    return split_rows(rows, shards, ids[buckets])
