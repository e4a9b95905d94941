"""DISKANN where memory is short: recall and time in a control group of a quarter of the vectors.

    python -m benchmarks.limited [--part 0.25]

Needs root and Linux's memory controller, version 1. The process joins the group once it is loaded,
so that what counts is what it uses for the index, the vectors and the searches, cached pages of
their files among it. The files are dropped from the system's cache before. The index file is then
read once, as loading does for its checksum; vectors are read as searches need them.
"""

import argparse
import os
import time
import zlib
from pathlib import Path

import numpy as np

from benchmarks.compare.data import CACHE
from benchmarks.engine import COSINE, recall
from benchmarks.index_data import TOP_K, clustered
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.families import open_index
from elanus.engine.index.dense.neighbours import Neighbours
from elanus.engine.threads import limit_kernel_threads
from elanus.model.reads import VectorQuery

GROUP = Path("/sys/fs/cgroup/memory/elanus-benchmark")
QUERIES = 100
ASKED = {"search_list": 300}


def prepared() -> tuple[Path, Path]:
    """(vectors, index); in a child, which takes what it used with it."""
    rows = CACHE / "clustered-rows.npy"
    index = CACHE / "clustered-100000-DISKANN.index"
    child = os.fork()
    if child == 0:
        data = clustered(100_000)
        np.save(rows, data.rows)
        truth = data.truth
        np.savez(CACHE / "clustered-truth.npz", queries=data.queries, offsets=truth.offsets)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return rows, index


def dropped(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_once(path: Path) -> None:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            checksum = zlib.crc32(piece, checksum)


def main() -> None:
    parser = argparse.ArgumentParser(description="DISKANN in little memory.")
    parser.add_argument("--part", type=float, default=0.25)
    options = parser.parse_args()
    limit_kernel_threads()
    rows, index = prepared()
    known = np.load(CACHE / "clustered-truth.npz")
    queries, offsets = known["queries"][:QUERIES], known["offsets"][: QUERIES * TOP_K]
    raw = rows.stat().st_size
    for path in (rows, index):
        dropped(path)
    GROUP.mkdir(exist_ok=True)
    try:
        limit = int(raw * options.part)
        (GROUP / "memory.limit_in_bytes").write_text(str(limit))
        (GROUP / "cgroup.procs").write_text(str(os.getpid()))
        vectors = np.load(rows, mmap_mode="r")
        column = DenseColumn([VectorBlock(0, np.asarray(vectors))], vectors.shape[1])
        read_once(index)
        loaded = open_index(
            str(index), "DISKANN", COSINE, len(vectors), column.dim, {"max_degree": "56"}
        )
        column.blocks(COSINE)  # reads all vectors once, for their lengths
        started = time.perf_counter(), time.process_time()
        found = [
            loaded.search(column, VectorQuery("v", COSINE, query[None], TOP_K, ASKED), None)
            for query in queries
        ]
        waited = time.perf_counter() - started[0], time.process_time() - started[1]
        used = int((GROUP / "memory.max_usage_in_bytes").read_text())
    finally:
        (GROUP.parent / "cgroup.procs").write_text(str(os.getpid()))
        GROUP.rmdir()
    truth = Neighbours(
        np.full(QUERIES, TOP_K), np.empty(QUERIES * TOP_K, np.float32), offsets.astype(np.int64)
    )
    joined = Neighbours(
        np.concatenate([each.counts for each in found]),
        np.concatenate([each.similarities for each in found]),
        np.concatenate([each.offsets for each in found]),
    )
    print(
        f"DISKANN {ASKED}: recall@10 {recall(joined, truth):.3f}, "
        f"{waited[0] / QUERIES * 1e6:.0f} us/query ({waited[1] / QUERIES * 1e6:.0f} of processor), "
        f"limit {limit / 1e6:.0f} MB = {options.part:.0%} of the vectors, "
        f"most used {used / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
