"""A text index that reads the texts as they are asked for: slow, and easy to believe."""

import heapq
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from elanus.engine.filter.arrays import Bools

Analyzer: TypeAlias = Callable[[str], Sequence[str]]
"""The tokens of a text, in order."""


class ScannedText:
    """A TextIndex that reads the texts as they are asked for."""

    def __init__(self, column: pa.Array, analyze: Analyzer) -> None:
        self._column = column
        self._analyze = analyze

    def match(self, query: str, minimum: int) -> Bools:
        wanted = self._analyze(query)

        def found(tokens: Sequence[str]) -> bool:
            there = set(tokens)
            return sum(token in there for token in wanted) >= minimum

        return self._rows(found) if wanted else np.zeros(len(self._column), np.bool_)

    def match_phrase(self, query: str, slop: int) -> Bools:
        wanted = self._analyze(query)

        def found(tokens: Sequence[str]) -> bool:
            return phrase_occurs(wanted, tokens, slop)

        return self._rows(found) if wanted else np.zeros(len(self._column), np.bool_)

    def match_fuzzy(self, query: str, distance: int) -> Bools:
        wanted = self._analyze(query)

        def found(tokens: Sequence[str]) -> bool:
            return any(edits(one, token) <= distance for one in wanted for token in tokens)

        return self._rows(found)

    def _rows(self, found: Callable[[Sequence[str]], bool]) -> Bools:
        analyze = self._analyze
        matches = (text is not None and found(analyze(text)) for text in self._column.to_pylist())
        return np.fromiter(matches, np.bool_, len(self._column))


def edits(left: str, right: str) -> int:
    """The fewest characters to insert, to drop, to change, and neighbours to exchange."""
    table = np.zeros((len(left) + 1, len(right) + 1), int)
    table[:, 0], table[0] = range(len(left) + 1), range(len(right) + 1)
    for n, a in enumerate(left, 1):
        for m, b in enumerate(right, 1):
            least = min(table[n - 1, m] + 1, table[n, m - 1] + 1, table[n - 1, m - 1] + (a != b))
            if n > 1 and m > 1 and (left[n - 2], a) == (b, right[m - 2]):
                least = min(least, table[n - 2, m - 2] + 1)
            table[n, m] = least
    return int(table[-1, -1])


def phrase_occurs(wanted: Sequence[str], tokens: Sequence[str], slop: int) -> bool:
    """Whether the tokens ``wanted`` can be placed in ``tokens`` with a displacement of at most
    ``slop``: how far the places, each less its rank in the phrase, lie apart."""
    if slop == 0:
        size = len(wanted)
        starts = range(len(tokens) - size + 1)
        return any(list(tokens[start : start + size]) == list(wanted) for start in starts)
    places: dict[str, list[int]] = {token: [] for token in wanted}
    for at, token in enumerate(tokens):
        if token in places:
            places[token].append(at)
    if not all(places.values()):
        return False
    shifted = [[at - rank for at in places[token]] for rank, token in enumerate(wanted)]
    # The narrowest window with one place of each token: always move its lowest end.
    lowest = [(found[0], rank, 0) for rank, found in enumerate(shifted)]
    heapq.heapify(lowest)
    highest = max(lowest)[0]
    while True:
        low, rank, at = lowest[0]
        if highest - low <= slop:
            return True
        if at + 1 == len(shifted[rank]):
            return False
        following = shifted[rank][at + 1]
        heapq.heapreplace(lowest, (following, rank, at + 1))
        highest = max(highest, following)
