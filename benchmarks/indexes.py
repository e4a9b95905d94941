"""Recall, memory and time of every index over dense vectors, and of filtered searches of some.

    python -m benchmarks.indexes [--data words clustered] [--only HNSW SCANN ...] [--rows N]

Data: *words*, 300,000 real vectors of 100 dimensions (``benchmarks.compare.data``), and
*clustered*, 100,000 vectors of 768 dimensions, made here with one seed. COSINE, ten neighbours of
1,000 vectors that are not among the rows. Indexes are built into benchmarks/.cache and kept there;
the graph of HNSW is built once for the four types that have it. Times are processor time, so that
what else the machine does counts less: of both threads for builds, of the one thread that searches.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from benchmarks.compare.data import CACHE, prepare
from benchmarks.engine import Columns, filters, recall, schema_of, timed
from elanus.access.ddl.index_parameters import AUTO_VECTOR_TYPE, resolve_index
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock, exact_search
from elanus.engine.index.dense.families import build_index, open_index
from elanus.engine.index.dense.family import DenseIndex, Source
from elanus.engine.index.dense.hnsw import HnswIndex, write_graph
from elanus.engine.index.dense.neighbours import Neighbours, prepare_queries
from elanus.engine.index.dense.scann import ScannIndex
from elanus.engine.segment.sealed import SealedSegment
from elanus.engine.threads import limit_kernel_threads
from elanus.model.reads import Snapshot, VectorQuery
from elanus.model.types import MetricType

COSINE = MetricType.COSINE
TOP_K = 10
NOW = Snapshot(1 << 60)
TYPES = (
    "IVF_FLAT",
    "IVF_SQ8",
    "IVF_PQ",
    "IVF_RABITQ",
    "SCANN",
    "HNSW",
    "HNSW_SQ",
    "HNSW_PQ",
    "HNSW_PRQ",
    "DISKANN",
    "AUTOINDEX",
)
FILTERED: dict[str, dict[str, dict[str, int]]] = {
    "words": {
        "HNSW": {"ef": 160},
        "SCANN": {"nprobe": 16, "reorder_k": 200},
        "DISKANN": {"search_list": 200},
        "AUTOINDEX": {},
    },
    "clustered": {
        "HNSW": {"ef": 64},
        "SCANN": {"nprobe": 16, "reorder_k": 200},
        "DISKANN": {"search_list": 300},
        "AUTOINDEX": {},
    },
}
"""The documented parameters, at which recall is to hold."""


@dataclass(frozen=True)
class Data:
    name: str
    rows: np.ndarray
    queries: np.ndarray

    @property
    def dim(self) -> int:
        return self.rows.shape[1]

    @cached_property
    def column(self) -> DenseColumn:
        return DenseColumn([VectorBlock(0, self.rows)], self.dim)

    @cached_property
    def truth(self) -> Neighbours:
        return exact_search(self.column.blocks(COSINE), self.queries, COSINE, TOP_K)

    @cached_property
    def segment(self) -> SealedSegment:
        count = len(self.rows)
        stamps = np.arange(1, count + 1, dtype=np.uint64)
        columns = Columns(pa.array(np.arange(count)), self.rows, stamps)
        return SealedSegment(schema_of(self.dim), 1, 1, columns)


def words(rows: int) -> Data:
    found = np.load(prepare(rows))
    return Data("words", found["rows"], found["queries"])


def clustered(rows: int) -> Data:
    """Vectors around 400 centres of very different size; each centre's spread lies mostly in one
    of 40 subspaces of 24 dimensions."""
    path, dim = CACHE / "clustered.npy", 768
    if not path.exists():
        random = np.random.default_rng(5)
        centres = random.standard_normal((400, dim)).astype(np.float32)
        spread = random.standard_normal((40, 24, dim)).astype(np.float32) / np.sqrt(24)
        made = np.empty((101_000, dim), np.float32)
        for start in range(0, len(made), 1_000):
            centre = random.zipf(1.3, 1_000) % 400
            weights = random.standard_normal((1_000, 24)).astype(np.float32)
            around = np.einsum("ij,ijk->ik", weights, spread[centre % 40])
            noise = random.standard_normal((1_000, dim)).astype(np.float32)
            made[start : start + 1_000] = centres[centre] * 0.6 + around + 0.35 * noise
        np.save(path, made)
    every = np.load(path, mmap_mode="r")
    return Data("clustered", np.array(every[: min(rows, 100_000)]), np.array(every[100_000:]))


def family_of(index_type: str) -> str:
    return AUTO_VECTOR_TYPE if index_type == "AUTOINDEX" else index_type


def params_of(index_type: str, data: Data) -> dict[str, str]:
    """The defaults; what has none, or none that fits the dimension, is four dimensions a code."""
    given = {"index_type": index_type, "metric_type": "COSINE"}
    if index_type == "AUTOINDEX":
        return resolve_index(schema_of(data.dim).by_name["vector"], {}).params
    if index_type in ("IVF_PQ", "HNSW_PQ"):
        given["m"] = str(data.dim // 4)
    return resolve_index(schema_of(data.dim).by_name["vector"], given).params


def built(index_type: str, data: Data) -> tuple[DenseIndex, float, int]:
    """(the index, processor time of its build in s, size of its file in bytes)."""
    stem = f"{data.name}-{len(data.rows)}-{index_type}"
    path, note = CACHE / f"{stem}.index", CACHE / f"{stem}.json"
    params = params_of(index_type, data)
    if not note.exists():
        start = time.process_time()
        seconds = 0.0
        if index_type in ("HNSW_SQ", "HNSW_PQ", "HNSW_PRQ"):
            seconds = built("HNSW", data)[1]
            start = time.process_time()
            graph = faiss.read_index(str(CACHE / f"{data.name}-{len(data.rows)}-HNSW.index"))
            write_graph(index_type, Source(COSINE, params, data.rows, 2), graph, str(path))
        else:
            build_index(family_of(index_type), COSINE, params, data.rows, str(path), threads=2)
        seconds += time.process_time() - start
        note.write_text(json.dumps({"cpu_s": seconds}))
    opened = open_index(str(path), family_of(index_type), COSINE, len(data.rows), data.dim, params)
    return opened, float(json.loads(note.read_text())["cpu_s"]), path.stat().st_size


def ours(data: Data, params: dict[str, Any], nq: int, count: int) -> None:
    for start in range(0, count, nq):
        vectors = data.queries[start : start + nq]
        data.segment.search(VectorQuery("vector", COSINE, vectors, TOP_K, params), NOW, None)


def measured(data: Data, params: dict[str, Any], counts: tuple[int, int]) -> tuple[float, ...]:
    """(recall, us a query at nq=1, at nq=100) of the segment's searches."""
    asked = VectorQuery("vector", COSINE, data.queries, TOP_K, params)
    score = recall(data.segment.search(asked, NOW, None), data.truth)
    single = timed(lambda: ours(data, params, 1, counts[0])) / counts[0] * 1e6
    return score, single, timed(lambda: ours(data, params, 100, counts[1])) / counts[1] * 1e6


def table(data: Data, types: list[str]) -> None:
    raw = data.rows.nbytes
    print(f"\n### {data.name}: {len(data.rows):,} × {data.dim}, {raw / 1e6:.0f} MB of vectors\n")
    print("| index | build, s | file, MB | of the vectors | in memory, MB | recall@10 |", end="")
    print(" us/query | at nq=100 |\n|---|---|---|---|---|---|---|---|")
    for index_type in types:
        index, seconds, size = built(index_type, data)
        data.segment.attach_index("vector", index)
        for params in (
            ({}, FILTERED[data.name].get(index_type)) if index_type != "AUTOINDEX" else ({},)
        ):
            if params is None:
                continue
            score, single, batch = measured(data, params, (200, 400))
            shown = " ".join(f"{key}={value}" for key, value in params.items())
            print(
                f"| {index_type} {shown} | {seconds:.0f} | {size / 1e6:.0f} | {size / raw:.0%} | "
                f"{index.size_bytes / 1e6:.0f} | {score:.3f} | {single:.0f} | {batch:.0f} |",
                flush=True,
            )


def bare(index: DenseIndex, params: dict[str, Any], unit: np.ndarray, nq: int) -> None:
    """The kernel library alone with the same parameters, its candidates not scored again."""
    for start in range(0, 400, nq):
        queries = unit[start : start + nq]
        if isinstance(index, ScannIndex):
            size, lists = params.get("reorder_k", 100), params.get("nprobe", index.nprobe)
            if nq == 1:
                index.searcher.search(queries[0], size, -1, lists)
            else:
                index.searcher.search_batched(queries, size, -1, lists, False, 0)
        elif isinstance(index, HnswIndex):
            depth = params.get("ef") or params["search_list"]
            size = TOP_K if index.vectors is not None else depth
            search_params = faiss.SearchParametersHNSW(efSearch=depth)
            index.index.search(queries, size, params=search_params)


def ratio(
    data: Data, index: DenseIndex, params: dict[str, Any], unit: np.ndarray, nq: int
) -> float:
    """Of the best of five runs of each, in turns."""
    pairs = [
        (
            timed(lambda: ours(data, params, nq, 400), 1),
            timed(lambda: bare(index, params, unit, nq), 1),
        )
        for _ in range(5)
    ]
    own, other = (min(side) for side in zip(*pairs, strict=True))
    return own / other


def against_bare(data: Data) -> None:
    print("\n| segment search ÷ bare library | nq=1 | nq=100 |\n|---|---|---|")
    unit = prepare_queries(data.queries, COSINE)
    for index_type, params in FILTERED[data.name].items():
        index = built(index_type, data)[0]
        data.segment.attach_index("vector", index)
        ratios = [ratio(data, index, params, unit, nq) for nq in (1, 100)]
        print(f"| {data.name}: {index_type} | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)


def filtered(data: Data, count: int) -> None:
    queries = prepare_queries(data.queries[:count], COSINE)
    names: list[str] = []
    cells: dict[str, list[str]] = {name: [] for name in FILTERED[data.name]}
    for name, kept in _cases(data, queries):
        names.append(name)
        truths = [
            exact_search(data.column.blocks(COSINE), query[None], COSINE, TOP_K, rows)
            for query, rows in zip(queries, kept, strict=True)
        ]
        for index_type, params in FILTERED[data.name].items():
            index = built(index_type, data)[0]
            hits, seconds = 0.0, 0.0
            for query, rows, truth in zip(queries, kept, truths, strict=True):
                asked = VectorQuery("vector", COSINE, query[None], TOP_K, params)
                start = time.process_time()
                found = index.search(data.column, asked, rows)
                seconds += time.process_time() - start
                hits += recall(found, truth)
            cells[index_type].append(f"{hits / count:.3f}, {seconds / count * 1e6:.0f} us")
    print(f"\n| {data.name}: rows that pass | " + " | ".join(cells) + " |")
    print("|---" * (len(cells) + 1) + "|")
    for number, name in enumerate(names):
        print(f"| {name} | " + " | ".join(column[number] for column in cells.values()) + " |")


def _cases(data: Data, queries: np.ndarray) -> Iterator[tuple[str, list[Any]]]:
    unit = prepare_queries(data.rows, COSINE)
    for name, kept in filters(unit, queries):
        if not name.endswith("0.99"):
            yield name, kept


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall, memory and time of dense indexes.")
    parser.add_argument("--data", nargs="+", default=["words", "clustered"])
    parser.add_argument("--only", nargs="+", default=list(TYPES))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--parts", nargs="+", default=["table", "bare", "filters"])
    parser.add_argument("--queries", type=int, default=60, help="of each filter")
    options = parser.parse_args()
    limit_kernel_threads()
    for name in options.data:
        data = (
            words(options.rows or 300_000)
            if name == "words"
            else clustered(options.rows or 100_000)
        )
        if "table" in options.parts:
            table(data, options.only)
        if "bare" in options.parts:
            against_bare(data)
        if "filters" in options.parts:
            filtered(data, options.queries)


if __name__ == "__main__":
    main()
