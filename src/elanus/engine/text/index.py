"""The token index of a text column: for each token the rows and places where it stands.

Answers ``text_match``, ``phrase_match`` and ``text_match_fuzzy``. Immutable; what it holds are five
arrays that are mapped from its file as they are. Occurrences are sorted by (token, row, position).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rapidfuzz.distance import OSA
from rapidfuzz.process import cdist

from elanus.engine.index.arrays import open_arrays_of, write_arrays
from elanus.engine.index.rows import RowSet
from elanus.engine.text.analyzer import Analyzer
from elanus.errors import CorruptData

Rows = npt.NDArray[np.int32]
Positions = npt.NDArray[np.uint16]
Places = npt.NDArray[np.int64]

_KIND = "a token index"
# A VarChar has at most 65,535 bytes, so a token's position fits 16 bits, and a displacement 17.
_ROW_SHIFT = 20
_POSITION_BASE = 1 << 18
_LARGEST_SLOP = 1 << 17
_CHARACTER_BYTES = 4
"""At most, in UTF-8."""


@dataclass(frozen=True, slots=True)
class TextIndex:
    """See the module.

    token_bytes: uint8, the tokens one after the other, sorted by their bytes. token_offsets: int64
    (tokens + 1,). starts: int64 (tokens + 1,). rows, positions: (occurrences,). is_mapped: the
    arrays are those of a file.
    """

    row_count: int
    token_offsets: npt.NDArray[np.int64]
    token_bytes: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    rows: Rows
    positions: Positions
    is_mapped: bool = False

    @property
    def size_bytes(self) -> int:
        """Memory beside what is mapped."""
        if self.is_mapped:
            return 0
        words = self.token_offsets.nbytes + self.token_bytes.nbytes
        return words + self.starts.nbytes + self.rows.nbytes + self.positions.nbytes

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

    def fuzzy(self, tokens: Sequence[str], distance: int) -> RowSet:
        """Rows in which a token stands that is at most ``distance`` edits from one of ``tokens``: a
        character more, less or another, or two neighbours that have changed places."""
        mask = np.zeros(self.row_count, np.bool_)
        for token in set(tokens):
            for number in self._near(token, distance).tolist():
                start, end = self.starts[number : number + 2].tolist()
                mask[self.rows[start:end]] = True
        return RowSet(self.row_count, mask=mask)

    def _near(self, token: str, distance: int) -> npt.NDArray[np.int64]:
        """The numbers of the tokens within ``distance`` edits."""
        surplus = np.diff(self.token_offsets) - len(token.encode())
        numbers = np.flatnonzero(np.abs(surplus) <= distance * _CHARACTER_BYTES)
        if not len(numbers):
            return numbers
        buffers = [None, pa.py_buffer(self.token_offsets), pa.py_buffer(self.token_bytes)]
        tokens = pa.Array.from_buffers(pa.large_string(), len(self.starts) - 1, buffers)
        candidates = tokens.take(pa.array(numbers)).to_pylist()
        edits = cdist(
            [token], candidates, scorer=OSA.distance, score_cutoff=distance, dtype=np.uint8
        )
        found: npt.NDArray[np.int64] = numbers[edits[0] <= distance]
        return found

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
        tokens = range(len(self.starts) - 1)
        number = bisect_left(tokens, wanted, key=self._token)
        return number if number < len(tokens) and self._token(number) == wanted else None

    def _token(self, number: int) -> bytes:
        start, end = self.token_offsets[number : number + 2].tolist()
        return self.token_bytes[start:end].tobytes()


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
    ordered = tokens[by_bytes].tolist()
    return TextIndex(
        row_count=len(texts),
        token_offsets=_offsets(np.fromiter(map(len, ordered), np.int64, len(ordered))),
        token_bytes=np.array(bytearray().join(ordered), np.uint8),
        starts=_offsets(np.bincount(ranks, minlength=len(tokens))),
        rows=np.repeat(np.arange(len(texts), dtype=np.int32), lengths)[order],
        positions=np.array(positions, np.uint16)[order],
    )


def _offsets(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def write_text_index(index: TextIndex, path: str) -> None:
    """Write the file at ``path``; the caller makes it durable."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "token_offsets": index.token_offsets,
        "token_bytes": index.token_bytes,
        "starts": index.starts,
        "rows": index.rows,
        "positions": index.positions,
    }
    write_arrays(path, _KIND, {"rows": index.row_count}, arrays)


def open_text_index(path: str, row_count: int) -> TextIndex:
    """Map the index file at ``path``. Raises CorruptData if it isn't a whole index over
    ``row_count`` rows."""
    file = open_arrays_of(path, _KIND, row_count)
    arrays = file.arrays
    try:
        index = TextIndex(
            row_count,
            arrays["token_offsets"],
            arrays["token_bytes"],
            arrays["starts"],
            arrays["rows"],
            arrays["positions"],
            is_mapped=True,
        )
    except KeyError as error:
        raise CorruptData(f"index file {path} lacks {error}") from error
    is_whole = (
        len(index.starts) == len(index.token_offsets) > 0
        and index.token_offsets[-1] == len(index.token_bytes)
        and index.starts[-1] == len(index.rows) == len(index.positions)
    )
    if not is_whole:
        raise CorruptData(f"index file {path} is not whole")
    return index
