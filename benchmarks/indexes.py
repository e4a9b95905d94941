"""Recall, memory and time of every index over vectors, and of filtered searches of some.

    python -m benchmarks.indexes [--data words clustered ...] [--only HNSW SCANN ...] [--rows N]
    python -m benchmarks.indexes --parts report

What *words*, *clustered*, *bits* and *terms* are stands in ``benchmarks.index_data``. Ten
neighbours of vectors that are not among the rows. Indexes are built by one thread into
benchmarks/.cache and kept there; a graph is built once for all types that have it. Results are
kept in benchmarks/results/indexes.json as they come, and the tables of docs/index-benchmarks.md
are written from them at the end. Beside bare libraries: ``benchmarks.index_speed``.
"""

import argparse
from functools import cache, partial

from rich.progress import Progress, TimeElapsedColumn

from benchmarks.index_data import DATA
from benchmarks.index_recall import (
    DOCUMENTED,
    TYPES,
    FilteredSearches,
    Results,
    table_steps,
)
from benchmarks.index_report import write_document
from elanus.engine.threads import limit_kernel_threads

PARTS = ["table", "filters", "report"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall, memory and time of indexes.")
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--only", nargs="+", help="index types")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
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
    if "report" in options.parts:
        write_document(results.kept)


if __name__ == "__main__":
    main()
