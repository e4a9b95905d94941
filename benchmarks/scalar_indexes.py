"""Scalar indexes: time of a filter with an index and by a scan, and what the index takes.

Run: ``python -m benchmarks.scalar_indexes [--rows 500000]``. One thread; CPU time, the best of
several repetitions, with and without the index in turn.
"""

import argparse
import os
import tempfile
import time
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from benchmarks.filter import best_of
from benchmarks.filter_cases import SCHEMA as ROWS_SCHEMA
from benchmarks.filter_cases import make_columns
from elanus.engine.filter import compile_filter, evaluate
from elanus.engine.index.scalar.files import build_scalar_index, open_scalar_index
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

SCHEMA = CollectionSchema(
    name="bench",
    enable_dynamic_field=True,
    fields=(*ROWS_SCHEMA.fields, FieldSchema(name="place", data_type=DataType.GEOMETRY)),
)
BOX = "POLYGON((10 10, 12 10, 12 12, 10 12, 10 10))"
CASES: list[tuple[str, str, dict[str, str], str]] = [
    ("STL_SORT", "id", {}, "id > 499000"),
    ("INVERTED", "price", {}, "10 < price < 10.5"),
    ("BITMAP", "brand", {}, 'brand in ["b1", "b2", "b3"]'),
    ("BITMAP", "stock", {}, "stock == 7"),
    ("HYBRID", "title", {}, 'title == "red chair lamp"'),
    ("Trie", "title", {}, 'title like "red ch%"'),
    ("INVERTED", "tags", {}, "array_contains(tags, 7)"),
    ("INVERTED", "$meta", {"json_path": "/n", "json_cast_type": "DOUBLE"}, "n == 5"),
    ("INVERTED", "$meta", {"json_path": "/color", "json_cast_type": "VARCHAR"}, 'color == "red"'),
    ("RTREE", "place", {}, f"st_within(place, '{BOX}')"),
    ("NGRAM", "title", {"min_gram": "3", "max_gram": "4"}, 'title like "%lamp blue%"'),
]


def bench(columns: dict[str, pa.Array], rows: int, folder: str) -> None:
    print(f"{'index':9} {'filter':44} {'keeps':>7} {'scan ms':>9} {'index ms':>9} {'×':>6}", end="")
    print(f" {'build s':>8} {'file MB':>8}", flush=True)
    for number, (index_type, name, params, text) in enumerate(CASES):
        path = f"{folder}/{number}"
        start = time.process_time()
        build_scalar_index(index_type, params, columns[name], path)
        build_s = time.process_time() - start
        indexes = {name: [open_scalar_index(path, rows)]}
        plan = compile_filter(text, SCHEMA)
        assert plan is not None

        def run(given: Any, plan: Any = plan) -> Any:
            return evaluate(plan, columns.__getitem__, rows, indexes=given)

        scan_ms, index_ms = best_of(7, lambda run=run: run(None), lambda r=run, i=indexes: r(i))
        found = run(indexes)
        assert (found == run(None)).all(), text
        size_mb = os.path.getsize(path) / 1e6
        line = f"{index_type:9} {text[:44]:44} {found.mean():7.2%} {scan_ms:9.2f}"
        line += f" {index_ms:9.3f} {scan_ms / index_ms:6.1f} {build_s:8.2f} {size_mb:8.1f}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    columns = make_columns(arguments.rows)
    points = np.random.default_rng(4).uniform(-90, 90, (arguments.rows, 2))
    columns["place"] = pa.array(shapely.to_wkb(shapely.points(points), byte_order=1), pa.binary())
    with tempfile.TemporaryDirectory() as folder:
        bench(columns, arguments.rows, folder)


if __name__ == "__main__":
    main()
