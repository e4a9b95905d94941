"""How full each query node will be.

Every shard tells its plan in the same step in which it makes it, before it acts on it: so two
shards that plan at the same time don't fill the same node.
"""

from collections import Counter
from collections.abc import Mapping


class PlannedRows:
    """See the module. Rows by node, by shard."""

    def __init__(self) -> None:
        self._of_shard: dict[str, Mapping[int, int]] = {}

    def elsewhere(self, vchannel: str) -> dict[int, int]:
        """Rows by node that all other shards have or are about to have there."""
        rows: Counter[int] = Counter()
        for name, planned in self._of_shard.items():
            if name != vchannel:
                rows.update(planned)
        return dict(rows)

    def plan(self, vchannel: str, rows: Mapping[int, int]) -> None:
        self._of_shard[vchannel] = rows

    def forget(self, vchannel: str) -> None:
        self._of_shard.pop(vchannel, None)
