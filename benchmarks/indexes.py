"""Recall, memory and time of every index over vectors, and of filtered searches of some.

    python -m benchmarks.indexes [--data words clustered ...] [--only HNSW SCANN ...] [--rows N]
    python -m benchmarks.indexes --parts report

What *words*, *clustered*, *bits* and *terms* are stands in ``benchmarks.index_data``. Ten
neighbours of vectors that are not among the rows. Indexes are built by one thread into
benchmarks/.cache and kept there; a graph is built once for all types that have it. Results are
kept in benchmarks/results/indexes.json as they come, and the tables of docs/index-benchmarks.md
are written from them at the end. ``--parts bare`` compares the segment's searches with those of the
bare libraries.
"""

import argparse
from functools import cache, partial
from typing import Any

import faiss
import numpy as np
from rich.progress import Progress, TimeElapsedColumn

from benchmarks.engine import timed
from benchmarks.index_data import DATA, TOP_K, Data, build
from benchmarks.index_recall import (
    DOCUMENTED,
    TYPES,
    FilteredSearches,
    Results,
    search_segment,
    table_steps,
)
from benchmarks.index_report import write_document
from elanus.engine.index.dense.family import DenseIndex
from elanus.engine.index.dense.hnsw import HnswIndex
from elanus.engine.index.dense.neighbours import prepare_queries
from elanus.engine.index.dense.scann import ScannIndex
from elanus.engine.threads import limit_kernel_threads


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
            timed(lambda: search_segment(data, params, nq, 400), 1),
            timed(lambda: bare(index, params, unit, nq), 1),
        )
        for _ in range(5)
    ]
    own, other = (min(side) for side in zip(*pairs, strict=True))
    return own / other


def against_bare(data: Data) -> None:
    print("\n| segment search ÷ bare library | nq=1 | nq=100 |\n|---|---|---|")
    unit = prepare_queries(data.queries, data.metric)
    for index_type, variant in DOCUMENTED.items():
        index, params = build(index_type, data).opened(data), variant.params
        data.segment.attach_index("vector", index)
        ratios = [ratio(data, index, params, unit, nq) for nq in (1, 100)]
        print(f"| {data.name}: {index_type} | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall, memory and time of indexes.")
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--only", nargs="+", help="index types")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--parts", nargs="+", default=["table", "filters", "bare", "report"])
    parser.add_argument("--queries", type=int, default=100, help="of each filter")
    options = parser.parse_args()
    limit_kernel_threads()
    results, steps = Results(), []
    loads = {
        name: cache(partial(DATA[name][0], options.rows or DATA[name][1])) for name in options.data
    }
    for name, load in loads.items():
        types = [each for each in TYPES[name] if options.only is None or each in options.only]
        if "table" in options.parts:
            steps += table_steps(load, name, types, results)
        documented = [each for each in types if each in DOCUMENTED]
        if "filters" in options.parts and documented:
            steps += FilteredSearches(load, name, documented, options.queries, results).steps()
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
        task = progress.add_task("", total=len(steps))
        for step in steps:
            progress.update(task, description=step.name)
            progress.console.print(f"{step.name}: {step.run()}", soft_wrap=True)
            progress.advance(task)
    if "bare" in options.parts:
        for load in loads.values():
            if load().is_dense:
                against_bare(load())
    if "report" in options.parts:
        write_document(results.kept)


if __name__ == "__main__":
    main()
