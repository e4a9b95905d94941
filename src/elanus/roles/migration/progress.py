"""What a migration tells while it runs, and what it has done at the end."""

from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """Phases come one after another; ``items`` and ``size_bytes`` are totals of the phase."""

    def begin(self, phase: str, items: int, size_bytes: int = 0) -> None: ...

    def advance(self, items: int = 1, size_bytes: int = 0) -> None: ...

    def end(self) -> None: ...


@dataclass
class Amount:
    items: int = 0
    size_bytes: int = 0

    def add(self, items: int, size_bytes: int) -> None:
        self.items += items
        self.size_bytes += size_bytes


@dataclass
class Summary:
    """``objects``, ``records`` and ``keys``: what both sides have. ``copied``: objects of this
    run. ``checksums``: comparisons of an object, or of a whole log, that were made."""

    cluster_id: str
    objects: Amount = field(default_factory=Amount)
    copied: Amount = field(default_factory=Amount)
    records: Amount = field(default_factory=Amount)
    logs: int = 0
    keys: int = 0
    checksums: int = 0
    duration_s: float = 0.0
