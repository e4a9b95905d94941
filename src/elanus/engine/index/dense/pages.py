"""Advice to the system about the pages of vectors that are mapped from disk and read in no order.

Reading ahead of a random row would fetch what nobody wants, so that is turned off. But the rows
that a search is about to compare are known together: they are asked for in one call, and the disk
serves them side by side instead of one after another. That costs a search some hundreds of
microseconds, so it is done only while reads do go to the disk. Whether the system follows changes
times, never rows.
"""

import ctypes
import mmap
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import Ints

SEARCHES_AHEAD = 16
"""Searches that go on asking after the last one that read from the disk."""
MAX_RANGES = 1_024
"""Of one call: IOV_MAX."""
_ADVICE_RANDOM, _ADVICE_WANTED = 1, 3

_library = ctypes.CDLL(None)
_advise: Any = getattr(_library, "madvise", None)
_advise_many: Any = getattr(_library, "process_madvise", None)
_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)


class RandomPages:
    """The pages of the vectors of some blocks. Safe in many threads: a lost update of ``_left``
    asks once more or once less."""

    def __init__(self, blocks: Sequence[VectorBlock]) -> None:
        self.blocks = blocks
        self._left = SEARCHES_AHEAD if _advise_many is not None and _THREAD is not None else 0
        for block in blocks:
            _expect_no_order(block)

    @property
    def is_asked_for(self) -> bool:
        """Whether asking is worth its price at the moment."""
        return self._left > 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around a search: learns whether it read from the disk."""
        before = _disk_reads()
        yield
        if _disk_reads() != before:
            self._left = SEARCHES_AHEAD
        elif self._left:
            self._left -= 1

    def ask_for(self, rows: Ints) -> None:
        """Have the pages of ``rows``, of any shape, read; -1 is no row."""
        wanted = rows[rows >= 0]
        for block in self.blocks:
            within = wanted - block.first_row
            inside = within[(within >= 0) & (within < len(block.vectors))]
            if len(inside):
                _ask(_ranges(block, inside))


def _ranges(block: VectorBlock, rows: Ints) -> Any:
    """uint64 (rows, 2): address and size of the pages of each row."""
    size = block.vectors.strides[0]
    first = block.vectors.ctypes.data + rows.astype(np.uint64) * np.uint64(size)
    page = np.uint64(mmap.PAGESIZE)
    ranges = np.empty((len(rows), 2), np.uint64)
    ranges[:, 0] = first // page * page
    ranges[:, 1] = (first + np.uint64(size + mmap.PAGESIZE - 1)) // page * page - ranges[:, 0]
    return ranges


def _ask(ranges: Any) -> None:
    process = os.pidfd_open(os.getpid())
    try:
        for start in range(0, len(ranges), MAX_RANGES):
            part = ranges[start : start + MAX_RANGES]
            address, count = ctypes.c_void_p(part.ctypes.data), ctypes.c_size_t(len(part))
            _advise_many(process, address, count, _ADVICE_WANTED, ctypes.c_uint(0))
    finally:
        os.close(process)


def _disk_reads() -> int:
    """Of this thread so far: waits for pages, and blocks that were asked for ahead."""
    if _THREAD is None:
        return 0
    used = resource.getrusage(_THREAD)
    return used.ru_majflt + used.ru_inblock


def _expect_no_order(block: VectorBlock) -> None:
    vectors = block.vectors
    start = -(-vectors.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    size = vectors.ctypes.data + vectors.nbytes - start
    if size > 0 and _advise is not None:
        _advise(ctypes.c_void_p(start), ctypes.c_size_t(size), _ADVICE_RANDOM)
