"""A compiled filter: what travels from the proxy to the segments instead of its text."""

from dataclasses import dataclass

import pyarrow as pa

from elanus.engine.filter.expression import Node


@dataclass(frozen=True)
class ElementFilter:
    """The elements of an array of structs that are hits of a search, or rows of a query, of their
    own. node: the predicate, on columns of elements. fields: the names of the columns that hold
    them, as lists, one after another by name. key: as that of a Plan."""

    struct: str
    node: Node
    fields: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"elements of {self.struct}: {self.node.key}"


@dataclass(frozen=True)
class Plan:
    """A typed, folded filter.

    key: canonical text of the plan with its constants; equal keys give equal results, so caches of
    bitmaps use it. fields: the names of the columns that it reads. primary_keys: the keys as an
    Arrow array (int64 or string) if the filter is just ``pk == v`` or ``pk in [...]``, else None.
    root: the expression tree (see ``expression``). always_true: its constants alone make it true
    for every row, as ``1 == 1`` does. sample: the share of the rows that pass to keep of each
    segment, at least one, chosen at random by ``seed``; ``key`` doesn't tell of it.
    elements: which elements of the rows that pass are meant; every such row has one. ``key``
    doesn't tell of it. None: the rows themselves.
    """

    key: str
    root: Node
    fields: frozenset[str]
    primary_keys: pa.Array | None = None
    always_true: bool = False
    sample: float | None = None
    seed: int = 0
    elements: ElementFilter | None = None

    @property
    def is_random(self) -> bool:
        return self.sample is not None
