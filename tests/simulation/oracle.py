"""What the answers must be: every write of every client, and what each answer may therefore show.

A *track* is what one client owns in one shard: it writes there one operation after another, so its
history is sequential. An operation is pending until its answer comes, or, when that got lost, until
a Strong read shows whether it took effect: as a whole or not at all. Any answer at an instant R
must show, track by track, exactly the operations up to R; of a pending operation all or nothing,
and what was shown must fit what is learnt of it later.
"""

from bisect import bisect_right
from dataclasses import dataclass, field


class Violation(AssertionError):
    """The server broke a promise."""


Rows = dict[int, int]
"""Primary key → id of the operation that wrote the row."""


@dataclass
class Operation:
    """One atomic write: the deletes, then the inserts."""

    op_id: int
    deletes: tuple[int, ...]
    inserts: tuple[int, ...]
    started_ts: int
    shown: list[tuple[int, bool]] = field(default_factory=list)

    def applied_to(self, rows: Rows) -> Rows:
        rest = {key: row for key, row in rows.items() if key not in self.deletes}
        return {**rest, **dict.fromkeys(self.inserts, self.op_id)}


class Track:
    """The rows of one client in one shard."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pending: Operation | None = None
        self._versions: dict[int, list[tuple[int, int | None]]] = {}
        self._timestamps: dict[int, int] = {}
        self.last_ts = 0
        self._unsure: list[tuple[int, int]] = []

    # --- history --------------------------------------------------------------------------------

    def begin(self, operation: Operation) -> None:
        if self.pending is not None:
            raise AssertionError("a client does one thing at a time")
        self.pending = operation

    def applied(self, timestamp: int) -> None:
        """The pending operation took effect at ``timestamp``, as its answer says."""
        operation = self._take()
        if timestamp <= max(self.last_ts, operation.started_ts):
            raise Violation(
                f"{self.name}: operation {operation.op_id} at {timestamp}, not after "
                f"{self.last_ts} and its start {operation.started_ts}"
            )
        for read_ts, seen in operation.shown:
            if seen != (timestamp <= read_ts):
                raise Violation(
                    f"{self.name}: a read at {read_ts} {'saw' if seen else 'did not see'} "
                    f"operation {operation.op_id}, whose timestamp is {timestamp}"
                )
        self._record(operation, timestamp)

    def absent(self) -> None:
        """The pending operation was refused, or a Strong read shows that it had no effect."""
        operation = self._take()
        if any(seen for _, seen in operation.shown):
            raise Violation(f"{self.name}: operation {operation.op_id} was seen, and is not there")

    def found(self, read_ts: int, timestamp: int | None) -> None:
        """A Strong read at ``read_ts`` shows the pending operation; its rows have ``timestamp``."""
        operation = self.pending
        assert operation is not None
        if timestamp is not None:
            self.applied(timestamp)
            return
        self._take()
        seen = [read for read, shown in operation.shown if shown]
        upto = min([read_ts, *seen])
        self._unsure.append((operation.started_ts, upto))
        self._record(operation, upto)

    def imported(
        self, read_ts: int, rows: Rows, timestamps: dict[int, int], is_there: bool
    ) -> set[int]:
        """A Strong read after the end of a bulk import, which is the pending operation; gives the
        insert timestamps of its rows. What was read at instants before may lack them or not."""
        operation = self.pending
        assert operation is not None
        expected = operation.applied_to(self.now()) if is_there else self.now()
        if rows != expected:
            state = "completed" if is_there else "failed"
            raise Violation(f"{self.name}: a {state} import {_difference(expected, rows)}")
        if not is_there:
            self.absent()
            return set()
        self._take()
        self._unsure.append((operation.started_ts, read_ts))
        self._record(operation, read_ts)
        stamps = {timestamps[key] for key in operation.inserts}
        self._timestamps[operation.op_id] = min(stamps)
        return stamps

    def emptied(self, keys: list[int], upto: int) -> None:
        """Their partition was dropped, some time before ``upto``: history begins anew."""
        self.pending = None
        self.last_ts = max(self.last_ts, upto)
        for key in keys:
            self._versions.pop(key, None)
        self._unsure.append((0, upto))

    def _take(self) -> Operation:
        operation, self.pending = self.pending, None
        assert operation is not None
        return operation

    def _record(self, operation: Operation, timestamp: int) -> None:
        self.last_ts = timestamp
        for key in operation.deletes:
            if key not in operation.inserts and key in self._versions:
                self._versions[key].append((timestamp, None))
        for key in operation.inserts:
            self._versions.setdefault(key, []).append((timestamp, operation.op_id))
        self._timestamps[operation.op_id] = timestamp

    def may_be_gone(self, key: int, read_ts: int) -> bool:
        """Whether the key's row of ``read_ts`` was replaced or deleted later: compaction may then
        have removed it, and a read that goes back to ``read_ts`` does not find it."""
        versions = self._versions.get(key, [])
        if self.pending is not None and key in (*self.pending.deletes, *self.pending.inserts):
            return True
        return not versions or versions[-1][0] > read_ts

    # --- what must be there ---------------------------------------------------------------------

    def now(self) -> Rows:
        """Without the pending operation."""
        return self.at(1 << 64)

    def at(self, read_ts: int) -> Rows:
        rows: Rows = {}
        for key in sorted(self._versions):
            versions = self._versions[key]
            place = bisect_right(versions, read_ts, key=lambda version: version[0])
            row = versions[place - 1][1] if place else None
            if row is not None:
                rows[key] = row
        return rows

    def is_unsure(self, read_ts: int) -> bool:
        """Whether an operation of unknown timestamp may be on either side of ``read_ts``."""
        return any(start <= read_ts < end for start, end in self._unsure)

    def options(self, read_ts: int) -> list[Rows]:
        """What may be there at ``read_ts``."""
        rows = self.at(read_ts)
        if self.pending is None or self.pending.started_ts >= read_ts:
            return [rows]
        return [rows, self.pending.applied_to(rows)]

    def check(self, read_ts: int, rows: Rows, timestamps: dict[int, int], what: str) -> None:
        """``rows`` is all that a read at ``read_ts`` shows of this track; ``timestamps``: the
        insert timestamps of the rows that it gave."""
        if self.is_unsure(read_ts):
            return
        options = self.options(read_ts)
        matches = [rows == option for option in options]
        if not any(matches):
            raise Violation(f"{self.name}: {what} at {read_ts} {_difference(options[0], rows)}")
        if self.pending is not None and matches.count(True) == 1:
            self.pending.shown.append((read_ts, len(matches) > 1 and matches[1]))
        for key, op_id in rows.items():
            known = self._timestamps.get(op_id)
            if known is not None and timestamps.get(key, known) != known:
                raise Violation(
                    f"{self.name}: row {key} of operation {op_id} has timestamp "
                    f"{timestamps[key]}, not {known}"
                )

    def resolve(self, read_ts: int, rows: Rows, timestamps: dict[int, int]) -> str:
        """Decide the pending operation by all rows that a Strong read shows."""
        operation = self.pending
        assert operation is not None
        without = self.now()
        with_it = operation.applied_to(without)
        if rows == with_it and with_it != without:
            stamps = {timestamps[key] for key in operation.inserts}
            if len(stamps) > 1:
                raise Violation(f"{self.name}: operation {operation.op_id} has {stamps}")
            self.found(read_ts, next(iter(stamps), None))
            return "applied"
        if rows != without:
            raise Violation(
                f"{self.name}: operation {operation.op_id} is there in part: "
                f"{_difference(without, rows)}, it deletes {operation.deletes} and "
                f"inserts {operation.inserts}"
            )
        self.absent()
        return "absent"


def _difference(expected: Rows, found: Rows) -> str:
    missing = {key: row for key, row in expected.items() if key not in found}
    surplus = {key: row for key, row in found.items() if key not in expected}
    other = {
        key: (expected[key], row)
        for key, row in found.items()
        if key in expected and expected[key] != row
    }
    return f"lacks {missing}, has too much {surplus}, has other rows {other}"
