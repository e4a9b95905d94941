"""What the binder holds on its stack: constants, columns, arithmetic on them, and predicates."""

from typing import Any

import msgspec

from elanus.engine.filter.column import Column
from elanus.engine.filter.expression import Node


class Operand(msgspec.Struct, kw_only=True):
    """Something with a place in the text: ``text[start:end]``."""

    start: int
    end: int


class Constant(Operand, kw_only=True):
    """literal: written as such, not computed. template: the name that gave it. missing: the
    template has no value, which is a fault of whoever needs it."""

    value: Any
    literal: bool = True
    template: str | None = None
    missing: bool = False


class Reference(Operand, kw_only=True):
    column: Column


class Struct(Operand, kw_only=True):
    """An array of structs as a whole. column: of its first field that isn't one of vectors."""

    column: Column


class Computed(Operand, kw_only=True):
    """``column operator operand``."""

    column: Column
    operator: str
    operand: int | float


class ArrayLength(Operand, kw_only=True):
    column: Column


class Option(Operand, kw_only=True):
    """``name=value`` within a call."""

    name: str
    value: int


class Sample(Operand, kw_only=True):
    """A random ``share`` of the rows for which ``node`` is true (None: of all rows)."""

    share: float
    node: Node | None = None
    depth: int = 1


class Elements(Operand, kw_only=True):
    """The elements of the array ``struct`` that pass ``tested``, in the rows for which ``node`` is
    true: those that have such an element, at least."""

    struct: str
    tested: Node
    node: Node
    depth: int


class Predicate(Operand, kw_only=True):
    """depth: levels of the tree under ``node``, itself included."""

    node: Node
    depth: int = 1
