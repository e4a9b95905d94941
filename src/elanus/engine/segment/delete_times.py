"""When each row of a growing segment was deleted, and which rows are alive.

One owner makes room and marks rows; readers in other threads never wait. Nearly all of them read
behind the last delete and see the same rows until the next append or delete, so these are kept.
"""

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.neighbours import Ints
from elanus.engine.index.rows import RowSet
from elanus.model.timestamp import MAX_TIMESTAMP

FIRST_ROOM_ROWS = 1_024


class DeleteTimes:
    """See the module. The maximum stands for a row that is alive."""

    def __init__(self) -> None:
        self._times = np.empty(0, np.uint64)
        self._first_ts = MAX_TIMESTAMP
        self._last_ts = 0
        # Odd while the owner marks rows; a set of rows made meanwhile is not kept.
        self._version = 0
        self._alive: tuple[int, RowSet] | None = None

    @property
    def size_bytes(self) -> int:
        return int(self._times.nbytes)

    # --- the owner's side ---------------------------------------------------------------------

    def make_room(self, row_count: int) -> None:
        """For so many rows, before any reader knows of them."""
        if row_count > len(self._times):
            times = np.full(max(FIRST_ROOM_ROWS, 2 * row_count), MAX_TIMESTAMP, np.uint64)
            times[: len(self._times)] = self._times
            self._times = times

    def mark(self, rows: Ints, timestamp: int) -> int:
        """Note that the rows, each once, were deleted at ``timestamp``, unless they had been
        before; gives how many were alive."""
        before = self._times[rows]
        # A reader below this timestamp must not miss the check of deletes that it starts to need.
        self._version += 1
        self._first_ts = min(self._first_ts, timestamp)
        self._last_ts = max(self._last_ts, timestamp)
        self._times[rows] = np.minimum(before, np.uint64(timestamp))
        self._version += 1
        return int(np.count_nonzero(before == MAX_TIMESTAMP))

    # --- readers ------------------------------------------------------------------------------

    def first(self, row_count: int) -> npt.NDArray[np.uint64]:
        """Of the first rows, uint64 (row_count,)."""
        return self._times[:row_count]

    def are_alive(self, rows: Ints, read_ts: int) -> npt.NDArray[np.bool_]:
        """bool (n,): whether no delete of them is visible at ``read_ts``."""
        alive: npt.NDArray[np.bool_] = self._times[rows] > np.uint64(read_ts)
        return alive

    def alive(self, row_count: int, read_ts: int) -> RowSet | None:
        """The rows without a delete that is visible at ``read_ts``, of the first ``row_count``;
        None: all of them."""
        version, kept = self._version, self._alive
        if self._first_ts > read_ts:
            return None
        sees_all = self._last_ts <= read_ts
        if sees_all and kept is not None and kept[0] == version and kept[1].row_count == row_count:
            return kept[1]
        rows = RowSet(row_count, mask=self._times[:row_count] > np.uint64(read_ts))
        if sees_all and version % 2 == 0 and version == self._version:
            self._alive = (version, rows)
        return rows
