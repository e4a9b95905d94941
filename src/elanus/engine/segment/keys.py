"""Where the rows of a primary key are, while rows keep arriving.

Keys become 64-bit codes: integers themselves, hashes of strings (whoever asks compares the strings
of the few candidates). Sorted runs of (code, row offset) are merged when they have grown alike, so
that n rows make O(log n) runs, single rows and batches of thousands alike. A KeyIndex never
changes; adding gives a new one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.index.dense.neighbours import Ints

MERGE_RATIO = 4
PIECE_ROWS = 16_384


class KeyIndex:
    """Runs of int64 codes, ascending, each with its int64 row offsets."""

    __slots__ = ("_runs",)

    def __init__(self, runs: tuple[tuple[Ints, Ints], ...] = ()) -> None:
        self._runs = runs

    @property
    def size_bytes(self) -> int:
        return sum(codes.nbytes + offsets.nbytes for codes, offsets in self._runs)

    def added(self, keys: pa.Array, first_row: int) -> "KeyIndex":
        """With the rows ``first_row …`` that have these keys."""
        runs = [*self._runs, (codes_of(keys), np.arange(first_row, first_row + len(keys)))]
        start = len(runs) - 1
        size = len(keys)
        while start > 0 and len(runs[start - 1][0]) < MERGE_RATIO * size:
            start -= 1
            size += len(runs[start][0])
        codes = np.concatenate([run[0] for run in runs[start:]])
        offsets = np.concatenate([run[1] for run in runs[start:]])
        order = np.argsort(codes, kind="stable")
        return KeyIndex((*runs[:start], (codes[order], offsets[order])))

    def candidates(self, keys: pa.Array) -> tuple[Ints, Ints]:
        """Pairs (position in ``keys``, row offset) whose codes are equal; every row that has one
        of the keys is among them. In no particular order."""
        wanted = codes_of(keys)
        positions: list[Ints] = []
        offsets: list[Ints] = []
        for codes, rows in self._runs:
            at, found = matches(codes, wanted)
            positions.append(at)
            offsets.append(rows[found])
        if not positions:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate(positions), np.concatenate(offsets)


def key_index(column: pa.Array) -> KeyIndex:
    """Of a whole column, taken up piece by piece."""
    index = KeyIndex()
    for start in range(0, len(column), PIECE_ROWS):
        index = index.added(column.slice(start, PIECE_ROWS), start)
    return index


def matches(ascending: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """Pairs (i, j) with ``ascending[j] == wanted[i]``."""
    left = np.searchsorted(ascending, wanted, "left")
    counts = np.searchsorted(ascending, wanted, "right") - left
    at = np.repeat(np.arange(len(wanted)), counts)
    first = np.repeat(left - (np.cumsum(counts) - counts), counts)
    return at, first + np.arange(len(at))


def codes_of(keys: pa.Array) -> Ints:
    """int64 (n,): equal for equal keys, and for integers only for these."""
    if pa.types.is_integer(keys.type):
        codes: Ints = np.asarray(keys).astype(np.int64, copy=False)
        return codes
    return np.fromiter(map(hash, keys.to_pylist()), np.int64, len(keys))


def equal(found: pa.Array, wanted: pa.Array) -> npt.NDArray[np.bool_]:
    """Elementwise, bool (n,)."""
    result: npt.NDArray[np.bool_] = np.asarray(pc.equal(found, wanted))
    return result
