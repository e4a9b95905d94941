"""The token index of a text column: for each token the rows and places where it stands.

Answers ``text_match`` and ``phrase_match``. Immutable; what it holds are four arrays that are
mapped from its file as they are. Occurrences are sorted by (token, row, position).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.index.rows import RowSet
from elanus.engine.text.analyzer import Analyzer
from elanus.errors import CorruptData

Rows = npt.NDArray[np.int32]
Positions = npt.NDArray[np.uint16]
Places = npt.NDArray[np.int64]

# A VarChar has at most 65,535 bytes, so a token's position fits 16 bits, and a displacement 17.
_ROW_SHIFT = 20
_POSITION_BASE = 1 << 18
_LARGEST_SLOP = 1 << 17


@dataclass(frozen=True, slots=True)
class TextIndex:
    """See the module.

    tokens: sorted by their bytes. starts: int64 (tokens + 1,). rows, positions: (occurrences,).
    """

    row_count: int
    tokens: pa.LargeStringArray
    starts: npt.NDArray[np.int64]
    rows: Rows
    positions: Positions

    @property
    def size_bytes(self) -> int:
        arrays = (self.tokens, self.starts, self.rows, self.positions)
        return int(sum(array.nbytes for array in arrays))

    def match(self, tokens: Sequence[str], minimum: int = 1) -> RowSet:
        """Rows in which at least ``minimum`` of the tokens stand; one that is named twice counts
        twice."""
        if minimum == 1:
            mask = np.zeros(self.row_count, np.bool_)
            for token in tokens:
                mask[self._occurrences(token)[0]] = True
            return RowSet(self.row_count, mask=mask)
        counts = np.zeros(self.row_count, np.uint16)
        for token in tokens:
            counts[np.unique(self._occurrences(token)[0])] += 1
        return RowSet(self.row_count, mask=counts >= minimum)

    def phrase(self, tokens: Sequence[tuple[str, int]], slop: int = 0) -> RowSet:
        """Rows in which the tokens (with their positions in the phrase) stand at most ``slop``
        apart, displaced all alike. None if there are no tokens.

        An occurrence less its position in the phrase is where the phrase would begin; all tokens
        need one within a window of ``slop + 1`` beginnings, which begins with one of them.
        """
        mask = np.zeros(self.row_count, np.bool_)
        places = [self._places(*token) for token in tokens]
        if not places or not all(map(len, places)):
            return RowSet(self.row_count, mask=mask)
        windows = places[0] if slop == 0 else np.unique(np.concatenate(places))
        for one in places:
            at = np.searchsorted(one, windows)
            inside = one[np.minimum(at, len(one) - 1)] - windows
            windows = windows[(inside >= 0) & (inside <= min(slop, _LARGEST_SLOP))]
        mask[windows >> _ROW_SHIFT] = True
        return RowSet(self.row_count, mask=mask)

    def _places(self, token: str, position: int) -> Places:
        """Where a phrase with this token at ``position`` would begin, with the row, ascending."""
        rows, positions = self._occurrences(token)
        begins = positions.astype(np.int64) - position + _POSITION_BASE
        return (rows.astype(np.int64) << _ROW_SHIFT) + begins

    def _occurrences(self, token: str) -> tuple[Rows, Positions]:
        number = self._number_of(token)
        start, end = (0, 0) if number is None else self.starts[number : number + 2].tolist()
        return self.rows[start:end], self.positions[start:end]

    def _number_of(self, token: str) -> int | None:
        wanted = token.encode()
        low, high = 0, len(self.tokens)
        while low < high:
            middle = (low + high) // 2
            if self.tokens[middle].as_buffer().to_pybytes() < wanted:
                low = middle + 1
            else:
                high = middle
        found = low < len(self.tokens) and self.tokens[low].as_py() == token
        return low if found else None


def build_text_index(analyzer: Analyzer, texts: pa.Array) -> TextIndex:
    """Index a column of strings; a null has no tokens. Heavy: for a compute thread or process."""
    vocabulary: dict[str, int] = {}
    numbers: list[int] = []
    positions: list[int] = []
    lengths = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts):
        value = text.as_py()
        if not value:
            continue
        found = analyzer.positioned(value)
        lengths[row] = len(found)
        for token, position in found:
            numbers.append(vocabulary.setdefault(token, len(vocabulary)))
            positions.append(position)
    tokens = np.array([token.encode() for token in vocabulary], object)
    by_bytes = np.argsort(tokens, kind="stable")
    rank = np.empty(len(tokens), np.int64)
    rank[by_bytes] = np.arange(len(tokens))
    ranks = rank[np.array(numbers, np.int64)]
    order = np.argsort(ranks, kind="stable")
    counts = np.bincount(ranks, minlength=len(tokens))
    return TextIndex(
        row_count=len(texts),
        tokens=pa.array([token.decode() for token in tokens[by_bytes]], pa.large_string()),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows=np.repeat(np.arange(len(texts), dtype=np.int32), lengths)[order],
        positions=np.array(positions, np.uint16)[order],
    )


def to_batch(index: TextIndex) -> pa.RecordBatch:
    """One row of lists, for an Arrow file."""
    arrays = {
        "tokens": index.tokens,
        "starts": pa.array(index.starts),
        "rows": pa.array(index.rows),
        "positions": pa.array(index.positions),
    }
    columns = {
        name: pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), array)
        for name, array in arrays.items()
    }
    return pa.record_batch({"row_count": pa.array([index.row_count], pa.int64()), **columns})


def from_batch(batch: pa.RecordBatch, name: str) -> TextIndex:
    """The index of a batch that ``to_batch`` made, without a copy. Raises CorruptData, with the
    file's ``name``, if it is not one."""
    try:
        arrays: dict[str, Any] = {
            key: batch.column(key).values for key in ("tokens", "starts", "rows", "positions")
        }
        row_count = batch.column("row_count")[0].as_py()
    except (KeyError, AttributeError, IndexError) as error:
        raise CorruptData(f"file {name} is no text index: {error}") from error
    index = TextIndex(
        row_count,
        arrays["tokens"],
        np.asarray(arrays["starts"]),
        np.asarray(arrays["rows"]),
        np.asarray(arrays["positions"]),
    )
    whole = len(index.starts) == len(index.tokens) + 1 and len(index.rows) == len(index.positions)
    if not whole or index.starts[-1] != len(index.rows):
        raise CorruptData(f"text index {name} is not whole")
    return index
