"""Rows by the runs of characters in a text: candidates for ``like`` with a pattern that is open at
its beginning.

A run of ``min_gram`` to ``max_gram`` characters is a number of 64 bits; two runs may share one,
which costs a candidate and no answer, as candidates are verified. Arrays of its file: ``grams``
uint64, ascending; ``starts`` int64 (grams + 1,); ``rows`` int32, ascending for each gram.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.arrays import Bools
from elanus.engine.filter.expression import Leaf, Like
from elanus.engine.filter.indexes import Answer
from elanus.engine.filter.pattern import LikePattern
from elanus.engine.index.scalar.base import Arrays, ColumnIndex

Grams = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

FIXED_NS = 40_000
LISTED_ROW_NS = 5.0
VERIFIED_ROW_FACTOR = 3.0
"""A gathered row costs this much more than one of a scan."""
FEW_CANDIDATES = 64
"""Fewer are verified rather than looked for in more lists."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_PIECE_ROWS = 65_536


class NgramIndex(ColumnIndex):
    """See the module. Raises KeyError if arrays or facts are missing."""

    def __init__(self, row_count: int, facts: Mapping[str, int | str], arrays: Arrays) -> None:
        super().__init__(row_count, facts, arrays)
        self._sizes = int(facts["min_gram"]), int(facts["max_gram"])
        self._grams, self._starts, self._rows = arrays["grams"], arrays["starts"], arrays["rows"]

    def answer(self, leaf: Leaf) -> Answer | None:
        if not isinstance(leaf, Like) or not self.concerns(leaf):
            return None
        wanted = [self._grams_of(run) for run in literal_runs(leaf.pattern)]
        grams = np.unique(np.concatenate(wanted)) if wanted else np.empty(0, np.uint64)
        if not len(grams):
            return None
        pieces = self._pieces(grams)
        fewest = pieces[0][1] - pieces[0][0]
        cost = FIXED_NS + fewest * (LISTED_ROW_NS + VERIFIED_ROW_FACTOR * leaf.cost)
        return Answer(cost, lambda: self._candidates(pieces), exact=False)

    def _grams_of(self, run: str) -> Grams:
        shortest, longest = self._sizes
        size = min(longest, len(run))
        if size < shortest:
            return np.empty(0, np.uint64)
        return grams_of(np.frombuffer(run.encode("utf-32-le"), np.uint32), size)

    def _pieces(self, grams: Grams) -> list[tuple[int, int]]:
        """Where the rows of each gram stand, the shortest piece first."""
        if not len(self._grams):
            return [(0, 0)]
        at = np.minimum(np.searchsorted(self._grams, grams), len(self._grams) - 1)
        known = self._grams[at] == grams
        starts, ends = self._starts[at], np.where(known, self._starts[at + 1], self._starts[at])
        return sorted(
            zip(starts.tolist(), ends.tolist(), strict=True), key=lambda piece: piece[1] - piece[0]
        )

    def _candidates(self, pieces: list[tuple[int, int]]) -> Bools:
        start, end = pieces[0]
        rows = self._rows[start:end]
        for start, end in pieces[1:]:
            if len(rows) <= FEW_CANDIDATES:
                break
            listed = self._rows[start:end]
            at = np.minimum(np.searchsorted(listed, rows), len(listed) - 1)
            rows = rows[listed[at] == rows]
        mask = np.zeros(self.row_count, np.bool_)
        mask[rows] = True
        return mask


def literal_runs(pattern: LikePattern) -> list[str]:
    """The texts that stand in every value that the pattern takes."""
    if pattern.kind != "general":
        return [pattern.text] if pattern.text else []
    runs = []
    for piece in pattern.pieces:
        shown = "".join("\0" if character is None else character for character in piece)
        # A NUL of the pattern itself ends a run too, which only makes the runs shorter.
        runs += [run for run in shown.split("\0") if run]
    return runs


def grams_of(characters: npt.NDArray[np.uint32], size: int) -> Grams:
    """The numbers of all runs of ``size``, uint64 (characters - size + 1,)."""
    count = max(0, len(characters) - size + 1)
    grams = np.full(count, size, np.uint64)
    for at in range(size):
        grams = (grams ^ characters[at : at + count]) * _FACTOR
        grams ^= grams >> np.uint64(29)
    return grams


def ngram_arrays(
    texts: pa.Array, rows: Ints, min_gram: int, max_gram: int
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an index over strings without nulls; ``rows`` int64 (strings,): where each
    stands. Heavy: for a process of its own."""
    grams: list[Grams] = [np.empty(0, np.uint64)]
    places: list[Ints] = [np.empty(0, np.int64)]
    for first in range(0, len(texts), _PIECE_ROWS):
        found, at = _piece_grams(texts.slice(first, _PIECE_ROWS), min_gram, max_gram)
        grams.append(found)
        places.append(rows[first + at])
    # Rows come in order, and a gram in one size only: a stable sort leaves its rows ascending.
    all_grams = np.concatenate(grams)
    order = np.argsort(all_grams, kind="stable")
    all_grams, listed = all_grams[order], np.concatenate(places)[order].astype(np.int32)
    is_new = np.ones(len(all_grams), np.bool_)
    is_new[1:] = all_grams[1:] != all_grams[:-1]
    kept = is_new.copy()
    kept[1:] |= listed[1:] != listed[:-1]
    starts = np.flatnonzero(is_new[kept])
    return {
        "grams": all_grams[is_new],
        "starts": np.append(starts, np.count_nonzero(kept)),
        "rows": listed[kept],
    }


def _piece_grams(texts: pa.Array, min_gram: int, max_gram: int) -> tuple[Grams, Ints]:
    """(gram, index of the text) of each run in each of the texts."""
    values = texts.to_pylist()
    characters = np.frombuffer("".join(values).encode("utf-32-le"), np.uint32)
    owners = np.repeat(np.arange(len(values)), [len(value) for value in values])
    found, at = [], []
    for size in range(min_gram, max_gram + 1):
        grams = grams_of(characters, size)
        if not len(grams):
            break
        inside = owners[: len(grams)] == owners[size - 1 :]
        found.append(grams[inside])
        at.append(owners[: len(grams)][inside])
    if not found:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    return np.concatenate(found), np.concatenate(at)
