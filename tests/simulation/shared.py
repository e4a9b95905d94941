"""What all simulated users together know of the server's contents, over all its lives."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.data import Contents, owner_of
from tests.simulation.oracle import Track, Violation


@dataclass
class Shared:
    """What all users together know, over all lives. ``breaks``: how often what past instants show
    changed: partitions were dropped, imports ended; ``releasing``, ``importing``: how many users
    are about to."""

    shards: int
    clients: int
    trace: Callable[[str], None]
    tracks: dict[tuple[int, int], Track] = field(default_factory=dict)
    written_fields: dict[int, tuple[str, ...]] = field(default_factory=dict)
    snapshots: deque[tuple[int, Contents, int]] = field(default_factory=lambda: deque(maxlen=6))
    breaks: int = 0
    releasing: int = 0
    importing: int = 0
    op_ids: int = 0

    def __post_init__(self) -> None:
        for client in range(self.clients):
            for shard in range(self.shards):
                self.tracks[client, shard] = Track(f"client {client}, shard {shard}")

    def is_one_history(self, breaks: int) -> bool:
        """Whether reads since there were so many breaks must agree on past instants."""
        return breaks == self.breaks and not self.releasing and not self.importing

    def next_op_id(self) -> int:
        self.op_ids += 1
        return self.op_ids

    def check(self, shard: int, contents: Contents, what: str) -> None:
        """All rows of a shard at one instant."""
        for client in range(self.clients):
            rows, timestamps = contents.of_client(client)
            self.tracks[client, shard].check(contents.read_ts, rows, timestamps, what)

    def may_be_gone(self, shard: int, key: int, read_ts: int) -> bool:
        return self.tracks[owner_of(key), shard].may_be_gone(key, read_ts)

    def rows_at(self, shard: int, read_ts: int, expression: str | None) -> dict[int, int]:
        """Rows that were there at ``read_ts`` and are even, if there is a filter."""
        return {
            key: op_id
            for client in range(self.clients)
            for key, op_id in self.tracks[client, shard].at(read_ts).items()
            if expression is None or op_id % 2 == 0
        }

    def check_count(self, shard: int, read_ts: int, count: int) -> None:
        possible = {0}
        for client in range(self.clients):
            track = self.tracks[client, shard]
            if track.is_unsure(read_ts):
                return
            options = {len(option) for option in track.options(read_ts)}
            possible = {before + more for before in possible for more in options}
        if count not in possible:
            raise Violation(f"count(*) of shard {shard} is {count}, not {sorted(possible)}")
