"""Searches and queries that are about single elements of arrays of structs.

A query with an element filter gives elements: they are ordered by primary key and by their place in
the row, and counted by its limit and offset. What a row has is decided by its struct's columns,
which come with the rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.arrays import lengths_of
from elanus.engine.filter.evaluate import evaluate_elements
from elanus.engine.filter.plan import ElementFilter, Plan
from elanus.errors import InvalidParameter, Unimplemented
from elanus.model.schema import FieldSchema


def check_element_filter(plan: Plan | None, searched: FieldSchema, *, has_elements: bool) -> None:
    """Whether the search of a vector field can have this filter. has_elements: single vectors of
    the field are found. Raises InvalidParameter."""
    if plan is None or plan.elements is None:
        return
    if not has_elements or searched.struct != plan.elements.struct:
        raise InvalidParameter(
            "element_filter is only supported for element-level search on vector sub-fields of "
            "the same struct array; use MATCH_ANY/MATCH_* for row-level vector search"
        )


def refuse_hybrid(field: FieldSchema) -> None:
    """Raises Unimplemented."""
    raise Unimplemented(
        f"a hybrid search of the single vectors of {field.name} is not supported yet: "
        "service unimplemented"
    )


def refuse_count(plan: Plan | None) -> None:
    """Raises Unimplemented."""
    if plan is not None and plan.elements is not None:
        raise Unimplemented(
            "count(*) with element_filter is not supported yet, use MATCH_ANY to count rows: "
            "service unimplemented"
        )


@dataclass(frozen=True, slots=True)
class ElementCursor:
    """The element that the page before ended with: its row's primary key, as text, and its place
    in the row."""

    key: str
    place: int


@dataclass(frozen=True, slots=True)
class ElementWindow:
    """Which of the elements that pass are wanted. limit: None: all after ``offset``. after: only
    what comes behind this one."""

    offset: int = 0
    limit: int | None = None
    after: ElementCursor | None = None

    @property
    def row_limit(self) -> int | None:
        """Rows that surely have enough elements: each has one at least, but that of the cursor."""
        if self.limit is None:
            return None
        return self.offset + self.limit + (self.after is not None)


def elements_of_rows(
    elements: ElementFilter, rows: pa.RecordBatch, key: str, window: ElementWindow
) -> tuple[pa.RecordBatch, list[npt.NDArray[np.int64]]]:
    """The rows that have elements in the window, and the places of these elements, ascending.

    rows: by ascending primary key, with the columns of ``elements`` and the field ``key``.
    """
    lengths = lengths_of(rows.column(elements.fields[0]))
    found = np.flatnonzero(evaluate_elements(elements, rows.column, rows.num_rows))
    starts = np.cumsum(lengths) - lengths
    owners = np.repeat(np.arange(rows.num_rows), lengths)[found]
    places = found - starts[owners]
    if window.after is not None:
        keys = rows.column(key).cast(pa.string()).to_pylist()
        seen = np.fromiter((each == window.after.key for each in keys), bool, len(keys))
        behind = ~seen[owners] | (places > window.after.place)
        owners, places = owners[behind], places[behind]
    end = None if window.limit is None else window.offset + window.limit
    owners, places = owners[window.offset : end], places[window.offset : end]
    kept, first = np.unique(owners, return_index=True)
    return rows.take(pa.array(kept)), np.split(places, first[1:]) if len(kept) else []
