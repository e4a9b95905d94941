"""The filter language: time to compile and to evaluate, with ratios to pyarrow.compute.

Run: ``python benchmarks/filter.py [--rows 500000]``. One thread; the best of several repetitions.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.filter import compile_filter, evaluate
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

SCHEMA = CollectionSchema(
    name="bench",
    enable_dynamic_field=True,
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="price", data_type=DataType.FLOAT, nullable=True),
        FieldSchema(name="stock", data_type=DataType.INT32),
        FieldSchema(name="brand", data_type=DataType.VARCHAR),
        FieldSchema(name="title", data_type=DataType.VARCHAR),
        FieldSchema(name="tags", data_type=DataType.ARRAY, element_type=DataType.INT64),
        FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True),
    ),
)
TYPICAL = 'price > 10.5 and brand in ["acme", "globex"] and not (title like "%refurbished%")'
FIVE = (
    'id >= 1000 and 10 < price < 60 and stock != 0 and brand in ["b1", "b2", "b3"] '
    'and title like "%blue%"'
)


def best_of(repetitions: int, work: Callable[[], Any]) -> float:
    """Seconds of the fastest repetition."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def make_columns(rows: int) -> dict[str, pa.Array]:
    random = np.random.default_rng(1)
    price = (random.random(rows) * 100).astype(np.float32)
    words = np.array(["red", "green", "blue", "small", "large", "chair", "table", "lamp"])
    picks = words[random.integers(0, len(words), (rows, 3))]
    titles = [" ".join(row) for row in picks.tolist()]
    metas = [
        orjson.dumps({"color": row[0], "n": at % 100}) for at, row in enumerate(picks.tolist())
    ]
    lengths = random.integers(0, 5, rows)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    tags = pa.array(random.integers(0, 50, int(offsets[-1])))
    return {
        "id": pa.array(np.arange(rows)),
        "price": pa.array(price, mask=random.random(rows) < 0.05),
        "stock": pa.array(random.integers(0, 20, rows).astype(np.int32)),
        "brand": pa.array([f"b{n}" for n in random.integers(0, 20, rows).tolist()]),
        "title": pa.array(titles),
        "tags": pa.ListArray.from_arrays(pa.array(offsets), tags),
        "$meta": pa.array(metas, pa.binary()),
    }


def arrow_five(columns: dict[str, pa.Array]) -> Any:
    """The five predicates by pyarrow.compute alone, each on every row."""
    parts = [
        pc.greater_equal(columns["id"], 1000),
        pc.and_kleene(
            pc.greater(columns["price"], pa.scalar(10, pa.float32())),
            pc.less(columns["price"], pa.scalar(60, pa.float32())),
        ),
        pc.not_equal(columns["stock"], pa.scalar(0, pa.int32())),
        pc.is_in(columns["brand"], value_set=pa.array(["b1", "b2", "b3"])),
        pc.match_substring(columns["title"], "blue"),
    ]
    result = parts[0]
    for part in parts[1:]:
        result = pc.and_kleene(result, part)
    return pc.fill_null(result, False).to_numpy(zero_copy_only=False)


def bench_compile() -> None:
    print("compile (parse, bind, rewrite)")
    thousand = f"id in {list(range(0, 3000, 3))}"
    million = f"id in {list(range(1_000_000))}"
    strings = f"brand in {[f'brand {n}' for n in range(1000)]}"
    for name, text, count in (
        ("pk equality", "id == 17", 2000),
        ("typical, three predicates", TYPICAL, 2000),
        ("five predicates", FIVE, 2000),
        ("JSON paths", 'color == "red" and $meta["n"] < 5 and exists size["x"][0]', 2000),
        ("in, 1,000 integers", thousand, 50),
        ("in, 1,000 strings", strings, 50),
        ("in, 1,000,000 integers", million, 1),
    ):

        def compile_all(text: str = text, count: int = count) -> None:
            for _ in range(count):
                compile_filter(text, SCHEMA)

        micros = best_of(5, compile_all) / count * 1e6
        print(f"  {name:32} {micros:12,.1f} µs")


def bench_evaluate(rows: int) -> None:
    columns = make_columns(rows)
    random = np.random.default_rng(2)
    wanted = random.integers(0, 1 << 40, 1000)
    spread = f"id in {wanted.tolist()}"
    near = f"stock in {list(range(0, 20, 2))}"
    arrow: dict[str, Callable[[], Any] | None] = {
        FIVE: lambda: arrow_five(columns),
        "id >= 1000": lambda: pc.greater_equal(columns["id"], 1000).to_numpy(False),
        "10 < price < 60": lambda: pc.fill_null(
            pc.and_(pc.greater(columns["price"], 10), pc.less(columns["price"], 60)), False
        ).to_numpy(False),
        spread: lambda: pc.is_in(columns["id"], value_set=pa.array(np.unique(wanted))),
        near: lambda: pc.is_in(columns["stock"], value_set=pa.array(range(0, 20, 2), pa.int32())),
        'brand == "b1"': lambda: pc.equal(columns["brand"], "b1").to_numpy(False),
        'title like "%blue%lamp"': lambda: pc.match_like(columns["title"], "%blue%lamp"),
        "stock + 1 == 2": lambda: pc.equal(pc.add(columns["stock"], 1), 2).to_numpy(False),
        "array_contains(tags, 7)": None,
        "tags[1] == 7": None,
        'color == "red"': None,
        'color == "red" and n < 5 and stock == 1': None,
        'color == "red" and n < 5 and id < 1000': None,
    }
    print(f"evaluate, {rows:,} rows")
    for text, by_arrow in arrow.items():
        plan = compile_filter(text, SCHEMA)
        assert plan is not None

        def run(plan: Any = plan) -> Any:
            return evaluate(plan, columns.__getitem__, rows)

        millis = best_of(7, run) * 1e3
        share = run().mean()
        line = f"  {text[:48]:48} {millis:9.2f} ms  keeps {share:8.4%}"
        if by_arrow is not None:
            reference = best_of(7, by_arrow) * 1e3
            line += f"  arrow {reference:8.2f} ms  ×{reference / millis:.2f}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    bench_compile()
    bench_evaluate(arguments.rows)


if __name__ == "__main__":
    main()
