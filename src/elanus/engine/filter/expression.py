"""The typed expression tree of a filter.

Leaves are predicates on one column (or two); each can be ``negated``, which turns true into false
and false into true and leaves unknown alone. After rewriting there is no Not above the leaves, so
that the rest of a filter needs two-valued logic only: unknown and false are the same once nothing
can negate them. ``key`` is the canonical text of a node; equal keys mean equal results. ``cost``
is the rough price of a row in nanoseconds and orders the operands of ``and`` and ``or``.
"""

from typing import Any, TypeAlias

import msgspec

from elanus.engine.filter.column import (
    COST_ARRAY,
    COST_NUMBER,
    COST_PATTERN,
    COST_STRING,
    COST_TEXT,
    TYPICAL_ELEMENTS,
    Column,
)
from elanus.engine.filter.keys import short_key, values_key
from elanus.engine.filter.pattern import LikePattern
from elanus.model.timestamptz import Interval


class Leaf(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A predicate on ``column``."""

    column: Column
    negated: bool = False

    @property
    def key(self) -> str:
        text = f"{self.column.key} {self.wording}"
        return short_key(f"not({text})" if self.negated else text)

    @property
    def wording(self) -> str:
        raise NotImplementedError

    @property
    def cost(self) -> int:
        return self.column.cost


class Compare(Leaf, frozen=True, kw_only=True):
    """``column operator value``; value has the column's type (on JSON any constant)."""

    operator: str
    value: Any

    @property
    def wording(self) -> str:
        return f"{self.operator} {self.value!r}"


class Between(Leaf, frozen=True, kw_only=True):
    """``low < column < high``, each bound closed or not."""

    low: Any
    high: Any
    low_closed: bool
    high_closed: bool

    @property
    def wording(self) -> str:
        left, right = "[" if self.low_closed else "(", "]" if self.high_closed else ")"
        return f"between {left}{self.low!r}, {self.high!r}{right}"

    @property
    def cost(self) -> int:
        return 2 * self.column.cost


class In(Leaf, frozen=True, kw_only=True):
    """``column in values``: distinct and ascending, as a NumPy array of the column's dtype or an
    Arrow string array; a tuple of constants for JSON and of lists for whole arrays."""

    values: Any

    def __post_init__(self) -> None:
        _make_tuple(self)

    @property
    def wording(self) -> str:
        return f"in {values_key(self.values)}"

    @property
    def cost(self) -> int:
        return 4 * self.column.cost


class Like(Leaf, frozen=True, kw_only=True):
    """``column like pattern``."""

    pattern: LikePattern

    @property
    def wording(self) -> str:
        return f"like {self.pattern.source!r}"

    @property
    def cost(self) -> int:
        return self.column.cost + (COST_PATTERN if self.pattern.kind == "general" else COST_STRING)


class Matches(Leaf, frozen=True, kw_only=True):
    """The regular expression is found in the text."""

    expression: str

    @property
    def wording(self) -> str:
        return f"=~ {self.expression!r}"

    @property
    def cost(self) -> int:
        return self.column.cost + COST_PATTERN


class Arithmetic(Leaf, frozen=True, kw_only=True):
    """``column arithmetic operand operator value``."""

    arithmetic: str
    operand: int | float
    operator: str
    value: Any

    @property
    def wording(self) -> str:
        return f"{self.arithmetic} {self.operand!r} {self.operator} {self.value!r}"

    @property
    def cost(self) -> int:
        return 6 * self.column.cost


class Length(Leaf, frozen=True, kw_only=True):
    """``array_length(column) operator value``."""

    operator: str
    value: int

    @property
    def wording(self) -> str:
        return f"length {self.operator} {self.value}"


class Contains(Leaf, frozen=True, kw_only=True):
    """The array holds any of ``values``, or all of them; values as those of In."""

    values: Any
    every: bool

    def __post_init__(self) -> None:
        _make_tuple(self)

    @property
    def wording(self) -> str:
        return f"contains {'all' if self.every else 'any'} {values_key(self.values)}"

    @property
    def cost(self) -> int:
        return 4 * self.column.cost


class Exists(Leaf, frozen=True, kw_only=True):
    """The JSON path leads to something that isn't empty. Never unknown: false on a null row."""

    @property
    def wording(self) -> str:
        return "exists"


class IsNull(Leaf, frozen=True, kw_only=True):
    """The row is null. Never unknown."""

    @property
    def wording(self) -> str:
        return "is null"

    @property
    def cost(self) -> int:
        return COST_NUMBER


class CompareColumns(Leaf, frozen=True, kw_only=True):
    """``column operator other``."""

    operator: str
    other: Column

    @property
    def wording(self) -> str:
        return f"{self.operator} column {self.other.key}"

    @property
    def cost(self) -> int:
        return 2 * self.column.cost


class Shifted(Leaf, frozen=True, kw_only=True):
    """``column + interval operator value`` (``sign`` -1: minus); value in microseconds UTC."""

    interval: Interval
    sign: int
    operator: str
    value: int

    @property
    def wording(self) -> str:
        steps = self.interval
        moved = f"{self.sign} * ({steps.months} mon {steps.days} d {steps.seconds} s)"
        return f"+ {moved} {self.operator} {self.value}"

    @property
    def cost(self) -> int:
        return 20 * self.column.cost


class TextMatch(Leaf, frozen=True, kw_only=True):
    """At least ``minimum`` of the query's tokens occur in the text."""

    query: str
    minimum: int

    @property
    def wording(self) -> str:
        return f"text match {self.query!r} {self.minimum}"

    @property
    def cost(self) -> int:
        return COST_TEXT


class PhraseMatch(Leaf, frozen=True, kw_only=True):
    """The query's tokens occur in order, moved by at most ``slop`` places in all."""

    query: str
    slop: int

    @property
    def wording(self) -> str:
        return f"phrase match {self.query!r} {self.slop}"

    @property
    def cost(self) -> int:
        return 2 * COST_TEXT


class FuzzyMatch(Leaf, frozen=True, kw_only=True):
    """A token occurs that is at most ``distance`` edits from one of the query's."""

    query: str
    distance: int

    @property
    def wording(self) -> str:
        return f"fuzzy match {self.query!r} {self.distance}"

    @property
    def cost(self) -> int:
        return 3 * COST_TEXT


class Spatial(Leaf, frozen=True, kw_only=True):
    """``relation(column, shape)``: a name of evaluate_geometry.RELATIONS and a WKB; or ``valid``,
    which needs none."""

    relation: str
    shape: bytes = b""

    @property
    def wording(self) -> str:
        return f"{self.relation} {self.shape.hex()}"


class Near(Leaf, frozen=True, kw_only=True):
    """At most ``distance_m`` metres from a point in degrees."""

    longitude: float
    latitude: float
    distance_m: float

    @property
    def wording(self) -> str:
        return f"within {self.distance_m!r} of {self.longitude!r} {self.latitude!r}"


class Match(Leaf, frozen=True, kw_only=True):
    """Of the elements of an array of structs, at ``least``, at ``most`` or ``exact``ly
    ``threshold`` pass ``child``, or ``all`` do. ``column``: a field of the struct."""

    quantifier: str
    threshold: int
    child: "Node"

    @property
    def wording(self) -> str:
        return f"match {self.quantifier} {self.threshold} {self.child.key}"

    @property
    def cost(self) -> int:
        return COST_ARRAY + TYPICAL_ELEMENTS * self.child.cost


class Literal(msgspec.Struct, frozen=True, tag=True):
    """True or false for every row, null or not."""

    value: bool
    cost: int = 0

    @property
    def key(self) -> str:
        return "true" if self.value else "false"


class Not(msgspec.Struct, frozen=True, tag=True):
    """Only before rewriting."""

    child: "Node"

    @property
    def key(self) -> str:
        return short_key(f"not({self.child.key})")

    @property
    def cost(self) -> int:
        return self.child.cost


class Junction(msgspec.Struct, frozen=True, tag=True):
    """The common part of And and Or."""

    children: tuple["Node", ...]
    key: str = ""
    cost: int = 0


class And(Junction, frozen=True):
    pass


class Or(Junction, frozen=True):
    pass


class Document(msgspec.Struct, frozen=True, tag=True):
    """A tree whose leaves all read the JSON column ``name``: it is decided per parsed document,
    so that a document is parsed once however many predicates read it."""

    name: str
    child: "Node"

    @property
    def key(self) -> str:
        return self.child.key

    @property
    def cost(self) -> int:
        return self.child.cost


AnyLeaf: TypeAlias = (
    Compare
    | Between
    | In
    | Like
    | Matches
    | Arithmetic
    | Length
    | Contains
    | Exists
    | IsNull
    | CompareColumns
    | Shifted
    | TextMatch
    | PhraseMatch
    | FuzzyMatch
    | Spatial
    | Near
    | Match
)
Node: TypeAlias = AnyLeaf | Literal | Not | And | Or | Document


def _make_tuple(leaf: In | Contains) -> None:
    # Constants that came from another process are a list.
    if isinstance(leaf.values, list):
        msgspec.structs.force_setattr(leaf, "values", tuple(leaf.values))
