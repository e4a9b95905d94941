"""Index files of faiss: written by it, and opened by mapping them. Nothing is read at opening but
headers and bounds.

A file that is truncated, or is not the index that the caller expects, is refused by name. What a
flipped bit inside codes or links does is for the checksum to find, before this is called.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from elanus.engine.index.dense.family import Expected
from elanus.engine.index.library import faiss, faiss_metric
from elanus.errors import CorruptData


@contextmanager
def kernel_threads(count: int) -> Iterator[None]:
    """Let faiss use so many threads for calls from this one."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(max(1, count))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def open_faiss(path: str, expected: Expected) -> Any:
    """Map the file. Raises CorruptData unless it is an index of faiss with this metric and as many
    rows and dimensions; of which class it is, is for the caller to check."""
    try:
        opened = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError, MemoryError) as error:
        reason = str(error).rsplit("Error: ", 1)[-1].strip()
        raise CorruptData(f"index file {path} can't be opened: {reason}") from error
    if opened.metric_type != faiss_metric(expected.metric):
        raise CorruptData(f"index file {path} was not built for the metric {expected.metric}")
    check_size(path, expected, int(opened.ntotal), int(opened.d))
    return opened


def check_size(path: str, expected: Expected, row_count: int, dim: int) -> None:
    if (row_count, dim) != (expected.row_count, expected.dim):
        raise CorruptData(
            f"index file {path} has {row_count} rows of {dim} dimensions, "
            f"expected {expected.row_count} of {expected.dim}"
        )


def wrong_class(path: str, expected: Expected, *found: Any) -> CorruptData:
    names = " over ".join(type(each).__name__ for each in found)
    return CorruptData(f"index file {path} holds {names}, not {expected.index_type}")
