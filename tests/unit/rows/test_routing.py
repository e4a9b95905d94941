"""Rows go to the shard and partition that Milvus's hashes say, and stay in order."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.model.catalog import PartitionInfo
from elanus.rows import routing

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)


def murmur3_reference(value: int) -> int:
    """The published algorithm, one word at a time."""

    def rotate(word: int, bits: int) -> int:
        return ((word << bits) | (word >> (32 - bits))) & 0xFFFFFFFF

    data = value.to_bytes(8, "little", signed=True)
    state = 0
    for start in (0, 4):
        word = int.from_bytes(data[start : start + 4], "little")
        word = (word * 0xCC9E2D51) & 0xFFFFFFFF
        word = (rotate(word, 15) * 0x1B873593) & 0xFFFFFFFF
        state = (rotate(state ^ word, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    state ^= 8
    state ^= state >> 16
    state = (state * 0x85EBCA6B) & 0xFFFFFFFF
    state ^= state >> 13
    state = (state * 0xC2B2AE35) & 0xFFFFFFFF
    state ^= state >> 16
    return state & 0x7FFFFFFF


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 1669671676), (1, 1392991556), (2, 1176478452), (100, 1177227376), (-1, 1651860712)],
)
def test_int64_hashes_are_those_of_milvus(value: int, expected: int) -> None:
    assert routing.hash_keys(pa.array([value], pa.int64())).tolist() == [expected]


@pytest.mark.parametrize(("value", "expected"), [("abcdef", 1267612143), ("milvus", 725768567)])
def test_string_hashes_are_those_of_milvus(value: str, expected: int) -> None:
    assert routing.hash_keys(pa.array([value])).tolist() == [expected]


def test_only_the_first_100_bytes_of_a_string_are_hashed() -> None:
    same, other = routing.hash_keys(pa.array(["x" * 100, "x" * 100 + "y"]))
    assert same == other


@given(st.lists(INT64, max_size=50))
def test_vectorised_hash_equals_the_published_algorithm(values: list[int]) -> None:
    hashed = routing.hash_int64(np.array(values, dtype=np.int64))
    assert hashed.tolist() == [murmur3_reference(value) for value in values]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60),
)
def test_split_keeps_every_row_once_in_order(targets: list[tuple[int, int]]) -> None:
    rows = pa.record_batch({"row": pa.array(range(len(targets)), pa.int64())})
    split = routing.split_rows(
        rows,
        np.array([shard for shard, _ in targets], dtype=np.int64),
        np.array([partition for _, partition in targets], dtype=np.int64),
    )
    found = {
        (shard, partition): part["row"].to_pylist()
        for shard, parts in split
        for partition, part in parts
    }
    expected: dict[tuple[int, int], list[int]] = {}
    for row, target in enumerate(targets):
        expected.setdefault(target, []).append(row)
    assert found == expected
    assert list(found) == sorted(found)


def test_one_target_copies_nothing() -> None:
    rows = pa.record_batch({"row": pa.array([1, 2, 3])})
    [(_, [(_, part)])] = routing.split_rows(rows, np.zeros(3, np.int64), np.zeros(3, np.int64))
    assert part is rows


def test_key_partitions_are_ordered_by_number() -> None:
    partitions = [
        PartitionInfo(partition_id=n, name=f"_default_{n}", created_ts=0) for n in (10, 2, 0, 1)
    ]
    assert [p.partition_id for p in routing.key_partitions(partitions)] == [0, 1, 2, 10]
