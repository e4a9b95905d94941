"""What searches by code needed of late, from which the next ones begin.

Two questions have no answer in the codes: how many rows must be scored exactly, and in how many of
the lists the best rows are. Queries tell: each search says how deep it had to go, and one in many
scans all lists and says where its best rows were.
"""

import numpy as np

from elanus.engine.index.codes import ALL, PARTS
from elanus.engine.index.dense.neighbours import Ints

LEAST_DEPTH = 128
MOST_DEPTH = 4_096
"""More is left to the searches that need it."""
STEP = 1 / 64
ENOUGH_PART = 0.85
"""The depth to begin with is enough for so many of the searches: one that must go deeper scans all
again."""
FOUND_PART = 0.99
"""So many of the best rows are in the lists that are scanned."""
FIRST_WHOLE = 64
"""Searches that scan all lists before any is confined."""
WHOLE_EVERY = 32
"""Afterwards one of so many does."""
FORGOTTEN_PART = 1 / 128
"""Of what is known, with each search that scans all lists."""


class Habits:
    """Only guesses: threads may overwrite each other's."""

    def __init__(self) -> None:
        self._depth = float(LEAST_DEPTH)
        self._searches = 0
        self._whole_searches = 0
        self._seen = np.zeros(len(PARTS))
        self._part = ALL

    @property
    def depth(self) -> int:
        """Rows to score exactly at first."""
        return int(self._depth)

    def note_depth(self, needed: int) -> None:
        """Follows the depth that is enough for ``ENOUGH_PART`` of the searches."""
        if needed > self._depth:
            self._depth = min(self._depth * (1 + STEP * ENOUGH_PART), MOST_DEPTH)
        else:
            self._depth = max(self._depth * (1 - STEP * (1 - ENOUGH_PART)), LEAST_DEPTH)

    @property
    def part(self) -> int:
        """Index of ``PARTS`` that is enough for most."""
        return self._part

    def learns_next(self) -> bool:
        """Whether the next search is to scan all lists and tell ``note_parts``."""
        self._searches += 1
        return self._whole_searches < FIRST_WHOLE or not self._searches % WHOLE_EVERY

    def note_parts(self, parts: Ints) -> None:
        """In which ``PARTS``, by index, a search of all lists found its best rows."""
        seen = self._seen * (1 - FORGOTTEN_PART) + np.bincount(parts, minlength=len(PARTS))
        self._seen = seen
        self._whole_searches += 1
        if self._whole_searches >= FIRST_WHOLE:
            within = np.cumsum(seen)
            self._part = int(np.searchsorted(within, FOUND_PART * within[-1]))
