"""Records come back as they went in, without a copy."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.errors import CorruptData
from elanus.storage.formats.wal_record import (
    WalControl,
    WalDelete,
    WalInsert,
    WalWrite,
    decode,
    encode,
)


def rows(count: int, first: int = 0, dim: int = 3) -> pa.RecordBatch:
    values = pa.array(np.arange(first * dim, (first + count) * dim, dtype=np.float32))
    return pa.record_batch(
        {
            "pk": pa.array([f"key {first + n}" for n in range(count)], pa.string()),
            "nullable": pa.array([None if n % 3 == 0 else n for n in range(count)], pa.int64()),
            "$meta": pa.array([b"{}"] * count, pa.binary()),
            "tags": pa.array([[n, n] for n in range(count)], pa.list_(pa.int32())),
            "vector": pa.FixedSizeListArray.from_arrays(values, dim),
        }
    )


def joined(record: WalWrite | WalControl) -> memoryview:
    buffer = pa.py_buffer(b"".join(encode(record)))
    return memoryview(buffer)


@given(
    counts=st.lists(st.integers(0, 20), max_size=3),
    deletes=st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), max_size=3),
    ts=st.integers(0, 2**64 - 1),
)
def test_a_write_survives(counts: list[int], deletes: list[list[int]], ts: int) -> None:
    inserts = tuple(WalInsert(n, 2**62 + n, rows(count, n)) for n, count in enumerate(counts))
    keys = tuple(WalDelete(n - 1, pa.array(part, pa.int64())) for n, part in enumerate(deletes))
    written = WalWrite(ts, "by-dev_3_77v0", 77, 5, inserts, keys)
    read = decode(joined(written))
    assert isinstance(read, WalWrite)
    assert read == written


def test_slices_are_written_without_their_surroundings() -> None:
    batch = rows(1_000)
    record = WalWrite(1, "v", 1, 0, (WalInsert(1, 2, batch.slice(500, 2)),))
    payload = joined(record)
    assert len(payload) < 3_000
    read = decode(payload)
    assert isinstance(read, WalWrite)
    assert read.inserts[0].rows.equals(batch.slice(500, 2))


def test_decoding_refers_to_the_payload() -> None:
    batch = rows(1_000, dim=100)
    payload = joined(WalWrite(1, "v", 1, 0, (WalInsert(1, 2, batch),)))
    before = pa.total_allocated_bytes()
    read = decode(payload)
    assert isinstance(read, WalWrite)
    values = read.inserts[0].rows.column("vector").flatten().to_numpy(zero_copy_only=True)
    assert pa.total_allocated_bytes() - before < 10_000
    assert values.flags.aligned
    start = np.frombuffer(payload, np.uint8).ctypes.data
    assert start <= values.ctypes.data < start + len(payload)


def test_a_control_record_survives() -> None:
    control = WalControl(7, "v", 1, "collection", b"\x00body")
    assert decode(joined(control)) == control
    assert decode(joined(WalControl(7, "v", 1, "empty"))) == WalControl(7, "v", 1, "empty")


@pytest.mark.parametrize("payload", [b"", b"EWR1", b"nope" * 10, b"EWR1\x05\0\0\0\xc1\xc1\xc1\xc1"])
def test_what_is_no_record_is_reported(payload: bytes) -> None:
    with pytest.raises(CorruptData):
        decode(memoryview(payload))


def test_a_record_that_ends_too_early_is_reported() -> None:
    payload = joined(WalWrite(1, "v", 1, 0, (WalInsert(1, 2, rows(10)),)))
    for end in range(0, len(payload), 37):
        with pytest.raises(CorruptData):
            decode(payload[:end])
