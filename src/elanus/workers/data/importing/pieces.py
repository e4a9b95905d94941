"""Some rows of a file as its reader gives them: objects (JSON) or columns (everything else)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

BATCH_BYTES = 8 << 20
"""Of a file, about, that are in memory as one piece."""
MAX_BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Objects:
    """``first_row``: the number of the first one in its file, from 0."""

    first_row: int
    rows: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def has(self, name: str) -> bool:
        return any(name in row for row in self.rows)

    def part(self, start: int, end: int) -> "Objects":
        return Objects(self.first_row + start, self.rows[start:end])


@dataclass(frozen=True, slots=True)
class Columns:
    """Arrow arrays by name. ``are_texts``: all are strings, and say what the other formats say
    with types of their own."""

    first_row: int
    columns: Mapping[str, Any]
    num_rows: int
    are_texts: bool = False

    def __len__(self) -> int:
        return self.num_rows

    def has(self, name: str) -> bool:
        return name in self.columns

    def part(self, start: int, end: int) -> "Columns":
        cut = {name: each.slice(start, end - start) for name, each in self.columns.items()}
        return Columns(self.first_row + start, cut, end - start, self.are_texts)


Piece: TypeAlias = Objects | Columns


def rows_per_batch(row_bytes: float) -> int:
    """Rows of this size that make about one batch."""
    return int(min(MAX_BATCH_ROWS, max(1, BATCH_BYTES // max(1, int(row_bytes)))))
