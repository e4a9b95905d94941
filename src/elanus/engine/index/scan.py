"""An exact scan of one query over blocks of vectors, whatever the kind of the vectors."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from elanus.engine.index.dense.neighbours import (
    Bounds,
    Floats,
    Ints,
    Neighbours,
    best,
    merge_neighbours,
)
from elanus.engine.index.rows import RowSet

GATHER_DENSITY = 0.2
"""Above this part of wanted rows all are compared and the others masked (measured at 300,000)."""


class Block(Protocol):
    """Vectors (rows, width) of consecutive rows from ``first_row`` on."""

    @property
    def first_row(self) -> int: ...

    @property
    def vectors(self) -> Any: ...


AnyBlock = TypeVar("AnyBlock", bound=Block)


def rows_within(block: Block, rows: RowSet) -> Ints:
    """The block's rows that are in the set, as offsets within the block."""
    start, stop = np.searchsorted(rows.ids, (block.first_row, block.first_row + len(block.vectors)))
    return rows.ids[start:stop] - block.first_row


def scan_blocks(
    blocks: Sequence[AnyBlock],
    score: Callable[[AnyBlock, Ints | None], Floats],
    top_k: int,
    rows: RowSet | None,
    bounds: Bounds | None,
) -> Neighbours:
    """The best of ``rows`` (None: all). ``score``: similarities of a block's rows by their offsets
    within it (None: all)."""
    parts = []
    masked = rows is not None and rows.density > GATHER_DENSITY
    for block in blocks:
        ids = None if rows is None or masked else rows_within(block, rows)
        similarities = score(block, ids)
        if rows is not None and masked:
            end = block.first_row + len(block.vectors)
            similarities[~rows.mask[block.first_row : end]] = -np.inf
        if bounds is not None:
            similarities[~bounds.holds(similarities)] = -np.inf
        chosen = best(similarities, top_k)
        offsets = (chosen if ids is None else ids[chosen]) + block.first_row
        parts.append(Neighbours(np.array([len(chosen)]), similarities[chosen], offsets))
    return merge_neighbours(parts, top_k)
