"""The filter language: time to compile, and to evaluate beside pyarrow, Polars and DuckDB.

Run: ``python -m benchmarks.filter [--rows 500000]``. One thread for everyone; the best of several
interleaved repetitions. Each library keeps the rows in its own memory; its answer is compared with
ours. A ratio above 1 says that ours is faster than the best of the others.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.filter_cases import CASES, COMPILED, SCHEMA, Case, make_columns
from elanus.engine.filter import compile_filter, evaluate


def best_of(repetitions: int, *works: Callable[[], Any]) -> list[float]:
    """Milliseconds of CPU of the cheapest repetition of each, taken in turns: with one thread that
    is the time it takes, whoever else uses the machine."""
    best = [float("inf")] * len(works)
    for _ in range(repetitions):
        for at, work in enumerate(works):
            start = time.process_time()
            work()
            best[at] = min(best[at], (time.process_time() - start) * 1e3)
    return best


def bench_compile() -> None:
    print("| compile | µs |\n|---|---|")
    for name, text, count in COMPILED:

        def compile_all(text: str = text, count: int = count) -> None:
            for _ in range(count):
                compile_filter(text, SCHEMA)

        [millis] = best_of(5, compile_all)
        print(f"| {name} | {millis / count * 1e3:,.1f} |")


def contenders(
    case: Case, columns: dict[str, pa.Array], frame: pl.DataFrame, database: Any
) -> dict[str, Callable[[], Any]]:
    """What evaluates the case to a mask, by library; ours is not among them."""
    found: dict[str, Callable[[], Any]] = {}
    if case.arrow is not None:
        arrow = case.arrow
        found["pyarrow"] = lambda: np.asarray(
            arrow(columns).fill_null(False).to_numpy(zero_copy_only=False)
        )
    if case.polars is not None:
        polars = case.polars
        found["polars"] = lambda: frame.select(polars.fill_null(False).alias("x"))["x"].to_numpy()
    if case.sql:
        query = f"select coalesce({case.sql}, false) as x from rows"
        found["duckdb"] = lambda: database.sql(query).fetchnumpy()["x"]
    return found


def bench_evaluate(rows: int, repetitions: int, wanted: str) -> bool:
    """Prints the table; whether nothing was slower than the best of the others."""
    columns = make_columns(rows)
    table = pa.table({**columns, "meta": columns["$meta"].cast(pa.string())}).drop(["$meta"])
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    database = duckdb.connect()
    database.sql("set threads to 1")
    database.sql("set preserve_insertion_order to true")
    database.register("arrow_rows", table)
    database.sql("create table rows as select * from arrow_rows")
    print(f"\n| {rows:,} rows | keeps | ours ms | pyarrow | polars | duckdb | best other / ours |")
    print("|---|---|---|---|---|---|---|")
    worst = float("inf")
    for case in CASES:
        if wanted not in case.text:
            continue
        plan = compile_filter(case.text, SCHEMA)
        assert plan is not None

        def run(plan: Any = plan) -> Any:
            return evaluate(plan, columns.__getitem__, rows)

        others = contenders(case, columns, frame, database)
        for name, other in others.items():
            if not np.array_equal(np.asarray(other(), np.bool_), run()):
                raise SystemExit(f"{name} has other rows than ours for {case.text}")
        ours, *times = best_of(repetitions, run, *others.values())
        by_name = dict(zip(others, times, strict=True))
        shown = [
            f"{by_name[n]:.2f}" if n in by_name else "" for n in ("pyarrow", "polars", "duckdb")
        ]
        ratio = min(times) / ours
        worst = min(worst, ratio)
        label = case.text.replace("|", "\\|")[:60]
        print(
            f"| `{label}` | {run().mean():.1%} | {ours:.2f} | {' | '.join(shown)} | {ratio:.2f} |",
            flush=True,
        )
    return worst >= 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose text has this part")
    arguments = parser.parse_args()
    if pl.thread_pool_size() > 1:
        print("note: Polars has several threads; POLARS_MAX_THREADS=1 limits it", file=sys.stderr)
    pa.set_cpu_count(1)
    if not arguments.only:
        bench_compile()
    if not bench_evaluate(arguments.rows, arguments.repetitions, arguments.only):
        print("\nslower than the best of the others in some case", file=sys.stderr)


if __name__ == "__main__":
    main()
