"""Rows that are asked for are read from disk together, and only they."""

import ctypes
import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest

from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.pages import RandomPages

ROWS, DIM = 4_096, 768
WAIT_S = 20.0


def resident(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which of the rows have their first page in the system's cache."""
    start = vectors.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    size = vectors.ctypes.data + vectors.nbytes - start
    pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    found = ctypes.CDLL(None, use_errno=True).mincore(
        ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_void_p(pages.ctypes.data)
    )
    assert found == 0
    first = vectors.ctypes.data - start + rows * vectors.strides[0]
    return (pages[first // mmap.PAGESIZE] & 1).astype(bool)


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    """Vectors in a file that is not in the system's cache."""
    path = tmp_path / "vectors.npy"
    np.save(path, np.ones((ROWS, DIM), np.float32))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    vectors = np.asarray(np.load(path, mmap_mode="r"))
    if resident(vectors, np.arange(ROWS)).mean() > 0.1:
        pytest.skip("the system keeps the file in its cache")
    return vectors


def test_rows_that_are_asked_for_are_read(mapped: np.ndarray) -> None:
    pages = RandomPages([VectorBlock(0, mapped)])
    if not pages.is_asked_for:
        pytest.skip("this system can't be asked")
    wanted = np.arange(100, ROWS, 64)
    pages.ask_for(np.append(wanted, -1)[None])
    deadline = time.monotonic() + WAIT_S
    while not resident(mapped, wanted).all() and time.monotonic() < deadline:
        os.sched_yield()
    assert resident(mapped, wanted).all()
    assert resident(mapped, np.arange(ROWS)).mean() < 0.3


def test_asking_ends_when_nothing_comes_from_the_disk() -> None:
    pages = RandomPages([VectorBlock(0, np.ones((8, 4), np.float32))])
    for _ in range(100):
        with pages.watched():
            pass
    assert not pages.is_asked_for
