"""The engine alone, without server or client: recall and time of segment searches.

    python -m benchmarks.engine VECTORS.npy [--index FILE] [--rows 300000]

VECTORS.npy: float32 (rows, dim). 1,000 rows drawn with seed 0 are held out as queries; the first
--rows of the others are the data. The HNSW graph (M=16, efConstruction=200, COSINE) is built into
--index if that file is not there, which takes minutes. One thread does everything; times are its
processor time, so that what else the machine does hardly counts.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock, exact_search
from elanus.engine.index.dense.families import build_index, open_index
from elanus.engine.index.dense.hnsw import HnswIndex
from elanus.engine.index.dense.neighbours import Neighbours, prepare_queries
from elanus.engine.index.rows import RowSet
from elanus.engine.reduce import merge_hits
from elanus.engine.segment.growing import GrowingSegment
from elanus.engine.segment.sealed import SealedSegment
from elanus.engine.threads import limit_kernel_threads
from elanus.model.reads import Hits, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType, MetricType
from elanus.model.vectors import vector_column

COSINE = MetricType.COSINE
TOP_K = 10
NOW = Snapshot(1 << 60)


@dataclass
class Columns:
    """A sealed segment's columns in memory."""

    keys: pa.Array
    data: np.ndarray
    timestamps: np.ndarray

    @property
    def row_count(self) -> int:
        return len(self.keys)

    def has_column(self, name: str) -> bool:
        return name in ("pk", "vector")

    def column(self, name: str) -> pa.Array:
        return self.keys

    def bounds(self, name: str) -> None:
        return None

    def vectors(self, name: str) -> np.ndarray:
        return self.data


def schema_of(dim: int) -> CollectionSchema:
    fields = (
        FieldSchema(name="pk", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(dim)}),
    )
    return CollectionSchema(name="words", fields=fields)


def timed(function: Callable[[], Any], repeat: int = 3) -> float:
    """The best of ``repeat`` runs, s."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def recall(found: Neighbours | Hits, truth: Neighbours) -> float:
    hits, start, first = 0, 0, 0
    for count, wanted in zip(found.counts, truth.counts, strict=True):
        own = set(found.offsets[start : start + count].tolist())
        hits += len(own & set(truth.offsets[first : first + wanted].tolist()))
        start, first = start + count, first + wanted
    return hits / max(1, len(truth.offsets))


def split(path: Path, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(data, held-out queries), as they are in the file."""
    every = np.load(path, mmap_mode="r")
    held = np.sort(np.random.default_rng(0).choice(len(every), 1_000, replace=False))
    others = np.ones(len(every), bool)
    others[held] = False
    return np.array(every[np.flatnonzero(others)[:rows]]), np.array(every[held])


def blocks_of(loaded: HnswIndex) -> list[VectorBlock]:
    assert loaded.vectors is not None
    return [VectorBlock(0, loaded.vectors)]


def curve(loaded: HnswIndex, data: np.ndarray, queries: np.ndarray) -> int:
    """Prints recall and time against ef, ours and bare faiss's. Returns the ef of 0.95."""
    schema = schema_of(data.shape[1])
    columns = Columns(
        pa.array(np.arange(len(data))), data, np.arange(1, len(data) + 1, dtype=np.uint64)
    )
    segment = SealedSegment(schema, 1, 1, columns)
    segment.attach_index("vector", loaded)
    unit = prepare_queries(queries, COSINE)
    truth = exact_search(blocks_of(loaded), queries, COSINE, TOP_K)
    print("ef      recall   ours us/query nq=1, 100   bare faiss nq=1, 100")
    chosen = 0
    for ef in (64, 96, 128, 160, 192, 256):

        def ours(nq: int, ef: int = ef) -> list[Hits]:
            return [
                segment.search(
                    VectorQuery("vector", COSINE, queries[i : i + nq], TOP_K, {"ef": ef}), NOW, None
                )
                for i in range(0, 500, nq)
            ]

        def bare(nq: int, ef: int = ef) -> None:
            for i in range(0, 500, nq):
                params = faiss.SearchParametersHNSW(efSearch=ef)
                loaded.index.search(unit[i : i + nq], TOP_K, params=params)

        found = segment.search(VectorQuery("vector", COSINE, queries, TOP_K, {"ef": ef}), NOW, None)
        score = recall(found, truth)
        times = [
            timed(lambda f=f, nq=nq: f(nq)) / 500 * 1e6 for f in (ours, bare) for nq in (1, 100)
        ]
        print(f"{ef:<8}{score:<9.4f}" + "  ".join(f"{value:8.0f}" for value in times))
        if not chosen and score >= 0.95:
            chosen = ef
    return chosen or 256


def filters(data: np.ndarray, queries: np.ndarray) -> Iterator[tuple[str, list[RowSet]]]:
    """(name, the rows kept for each query)."""
    yield "random 0.99", kept_rows("random", 0.99, data, queries)
    for kind in ("random", "near", "far"):
        for part in (0.5, 0.1, 0.01, 0.001):
            yield f"{kind} {part}", kept_rows(kind, part, data, queries)


def kept_rows(kind: str, part: float, data: np.ndarray, queries: np.ndarray) -> list[RowSet]:
    """The rows that a filter keeps for each query: the same for all (*random*), the most similar
    ones (*near*) or the least similar ones (*far*), both with some noise."""
    random = np.random.default_rng(1)
    rows = len(data)
    if kind == "random":
        return [RowSet(rows, mask=random.random(rows) < part)] * len(queries)
    kept = []
    for query in queries:
        noisy = data @ query + 0.05 * random.standard_normal(rows, np.float32)
        noisy = noisy if kind == "near" else -noisy
        kept.append(RowSet(rows, mask=noisy >= np.quantile(noisy, 1 - part)))
    return kept


def filtered(loaded: HnswIndex, queries: np.ndarray, ef: int) -> None:
    assert loaded.vectors is not None
    column = DenseColumn(blocks_of(loaded), loaded.dim)
    unit = prepare_queries(queries, COSINE)
    print(f"filter at ef={ef}    recall     us/query")
    for name, kept in filters(loaded.vectors, unit):
        hits, seconds = 0.0, 0.0
        for query, rows in zip(queries, kept, strict=True):
            truth = exact_search(column.blocks(COSINE), query[None], COSINE, TOP_K, rows)
            asked = VectorQuery("vector", COSINE, query[None], TOP_K, {"ef": ef})
            start = time.process_time()
            found = loaded.search(column, asked, rows)
            seconds += time.process_time() - start
            hits += recall(found, truth)
        print(f"{name:<20}{hits / len(queries):<11.4f}{seconds / len(queries) * 1e6:.0f}")


def exact(data: np.ndarray, queries: np.ndarray) -> None:
    block = [VectorBlock(0, prepare_queries(data, COSINE))]
    random = np.random.default_rng(2)
    parts = (0.001, 0.01, 0.1, 0.5, 1.0)
    print("exact scan, ms      " + "".join(f"{part:>9}" for part in parts))
    for nq in (1, 10, 100):
        line = f"nq={nq:<17}"
        for part in parts:
            rows = RowSet(len(data), mask=random.random(len(data)) < part) if part < 1 else None
            seconds = timed(
                lambda rows=rows, nq=nq: exact_search(block, queries[:nq], COSINE, TOP_K, rows)
            )
            line += f"{seconds * 1e3:9.2f}"
        print(line)


def growing(data: np.ndarray, queries: np.ndarray) -> None:
    """Appends, interim index, searches and deletes at several sizes."""
    segment = GrowingSegment(schema_of(data.shape[1]), 1, 1)
    appended, indexing = 0.0, 0.0
    print("growing: rows   append us/1,000   index s   recall   us/query nq=1, 100")
    sizes = (8_192, 20_000, 50_000, 100_000, 200_000, 300_000)
    start_row, ts = 0, 0
    for size in sizes:
        while start_row < size:
            end = min(start_row + 1_000, size)
            keys = pa.array(np.arange(start_row, end))
            batch = pa.RecordBatch.from_arrays(
                [keys, vector_column(data[start_row:end])], names=["pk", "vector"]
            )
            ts += 1
            begun = time.process_time()
            segment.append(batch, ts)
            appended += time.process_time() - begun
            start_row = end
            if segment.index_pending("vector"):
                begun = time.process_time()
                segment.build_interim("vector", COSINE)
                indexing += time.process_time() - begun
        blocks = [VectorBlock(0, prepare_queries(data[:size], COSINE))]
        truth = exact_search(blocks, queries[:200], COSINE, TOP_K)

        def search(nq: int, count: int) -> Hits:
            parts = [
                segment.search(VectorQuery("vector", COSINE, queries[i : i + nq], TOP_K), NOW, None)
                for i in range(0, count, nq)
            ]
            return parts[0] if len(parts) == 1 else merge_hits(parts[:1], TOP_K, True)

        score = recall(search(200, 200), truth)
        single = timed(lambda: search(1, 100)) / 100 * 1e6
        batch_time = timed(lambda: search(100, 100)) / 100 * 1e6
        print(
            f"{size:>13} {appended / size * 1e9:>15.0f} {indexing:>11.2f} {score:>9.3f}"
            f"{single:>12.0f} {batch_time:>20.0f}"
        )
    keys = pa.array(np.random.default_rng(3).choice(start_row, 1_000, replace=False))
    many = timed(lambda: segment.delete(keys, ts + 1), 1)
    one = timed(lambda: segment.delete(pa.array([5]), ts + 1))
    print(
        f"delete: 1,000 keys {many * 1e6:.0f} us, one {one * 1e6:.0f} us; "
        f"{segment.size_bytes / data[:start_row].nbytes:.2f} x raw vectors"
    )
    segment = GrowingSegment(schema_of(data.shape[1]), 1, 1)
    batches = [
        pa.RecordBatch.from_arrays(
            [pa.array([i]), vector_column(data[i : i + 1])], names=["pk", "vector"]
        )
        for i in range(5_000)
    ]
    begun = time.process_time()
    for number, batch in enumerate(batches):
        segment.append(batch, number + 1)
    print(f"append of one row: {(time.process_time() - begun) / 5_000 * 1e6:.0f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall and time of the engine's searches.")
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--index", type=Path, default=Path("hnsw.faiss"))
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--only", choices=["curve", "filters", "exact", "growing"])
    options = parser.parse_args()
    limit_kernel_threads()
    data, queries = split(options.vectors, options.rows)
    if options.only in (None, "exact"):
        exact(data, queries)
    if options.only in (None, "growing"):
        growing(data, queries)
    if options.only == "exact" or options.only == "growing":
        return
    if not options.index.exists():
        params = {"M": 16, "efConstruction": 200}
        build_index("HNSW", COSINE, params, data, str(options.index), threads=2)
    begun = time.process_time()
    loaded = open_index(str(options.index), "HNSW", COSINE, len(data), data.shape[1])
    assert isinstance(loaded, HnswIndex)
    print(f"open: {(time.process_time() - begun) * 1e3:.1f} ms")
    ef = 160 if options.only == "filters" else curve(loaded, data, queries)
    if options.only != "curve":
        filtered(loaded, queries[::5], ef)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")


if __name__ == "__main__":
    main()
