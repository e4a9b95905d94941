"""Which filters no row of a segment can pass, told by the least and greatest values of its columns.

Such a segment is passed over: none of its columns is read, no index of it searched.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.filter.expression import And, Between, Compare, In, Leaf, Literal, Node, Or

Bounds: TypeAlias = Callable[[str], tuple[Any, Any] | None]
"""The least and the greatest of a column's values that are neither null nor NaN, infinite ones
included; None if they aren't known."""


def excludes(node: Node, bounds: Bounds) -> bool:
    """Whether no row can pass. False says nothing."""
    match node:
        case Literal():
            return not node.value
        case And():
            return any(excludes(child, bounds) for child in node.children)
        case Or():
            return all(excludes(child, bounds) for child in node.children)
        case Compare() | Between() | In() if node.column.is_scalar and not node.negated:
            known = bounds(node.column.name)
            return known is not None and _leaf_excludes(node, *known)
    return False


def _leaf_excludes(leaf: Leaf, least: Any, greatest: Any) -> bool:
    match leaf:
        case Compare(operator="=="):
            return bool(leaf.value < least or leaf.value > greatest)
        case Compare(operator="<"):
            return bool(least >= leaf.value)
        case Compare(operator="<="):
            return bool(least > leaf.value)
        case Compare(operator=">"):
            return bool(greatest <= leaf.value)
        case Compare(operator=">="):
            return bool(greatest < leaf.value)
        case Between():
            below = greatest < leaf.low if leaf.low_closed else greatest <= leaf.low
            above = least > leaf.high if leaf.high_closed else least >= leaf.high
            return bool(below or above)
        case In(values=np.ndarray() as values):
            return not bool(np.any((values >= least) & (values <= greatest)))
        case In(values=pa.Array() as values):
            within = pc.and_(pc.greater_equal(values, least), pc.less_equal(values, greatest))
            return not pc.any(within).as_py()
    return False
