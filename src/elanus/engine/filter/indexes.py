"""What evaluation asks of the scalar indexes of a segment.

An index says for a predicate whether it can help and at what price; evaluation takes it where that
is less than a scan of the rows that are left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from elanus.engine.filter.arrays import Bools
from elanus.engine.filter.expression import Leaf


@dataclass(frozen=True, slots=True)
class Answer:
    """An index's offer for one predicate.

    cost_ns: about what ``ask`` takes, and the test of the candidates. ask: bool (rows,), the
    caller's own. exact: the rows are those for which the predicate is known and true. If not, they
    are candidates: every row for which it is true before its negation is among them.
    """

    cost_ns: float
    ask: Callable[[], Bools]
    exact: bool = True


class ScalarIndex(Protocol):
    """An index over all rows of one column. Immutable; safe in many threads.

    size_bytes: memory beside what is mapped.
    """

    row_count: int
    size_bytes: int

    def answer(self, leaf: Leaf) -> Answer | None:
        """None: the index knows nothing of this predicate."""
        ...


ScalarIndexes: TypeAlias = Mapping[str, Sequence[ScalarIndex]]
"""Those of a segment by the name of their field: a JSON field has one for each path."""


def cheapest_answer(indexes: ScalarIndexes, leaf: Leaf) -> Answer | None:
    found = [index.answer(leaf) for index in indexes.get(leaf.column.name, ())]
    return min((one for one in found if one), key=lambda one: one.cost_ns, default=None)
