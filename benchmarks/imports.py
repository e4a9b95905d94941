"""Bulk imports beside inserts: how fast rows come into segments, by turns on one server.

    python -m benchmarks.imports [--rows 100000] [--dim 100] [--turns 3]

The import reads one Parquet file; pymilvus inserts batches of 10,000 rows, then flushes.
"""

import argparse
import statistics
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.compare.__main__ import RESULTS
from benchmarks.compare.servers import ROOT, ElanusServer

CLIENT = ROOT / ".clients" / "2.6" / "bin" / "python"
FILE = "new/rows.parquet"


def prepare(server: ElanusServer, rows: int, dim: int) -> Path:
    """Write the Parquet file into the server's object store; the vectors' own file."""
    values = np.random.default_rng(7).random((rows, dim), np.float32)
    vectors = pa.ListArray.from_arrays(
        pa.array(np.arange(rows + 1, dtype=np.int32) * dim), pa.array(values.reshape(-1))
    )
    file = server.directory / "data" / "objects" / FILE
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": pa.array(np.arange(rows)), "vector": vectors}), file)
    plain = server.directory / "vectors.npy"
    np.save(plain, values)
    return plain


def seconds(server: ElanusServer, way: str, vectors: Path) -> tuple[float, float]:
    script = Path(__file__).parent / "import_client.py"
    run = subprocess.run(
        [CLIENT, script, str(server.port), way, vectors, FILE],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    acknowledged, done = map(float, run.stdout.split())
    return acknowledged, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    server = ElanusServer(RESULTS / "imports")
    server.port = 19660
    server.remove_data()
    server.start()
    try:
        vectors = prepare(server, arguments.rows, arguments.dim)
        taken: dict[str, list[float]] = {"inserted": [], "inserted, flushed": [], "imported": []}
        for _ in range(arguments.turns):
            acknowledged, flushed = seconds(server, "insert", vectors)
            taken["inserted"].append(acknowledged)
            taken["inserted, flushed"].append(flushed)
            taken["imported"].append(seconds(server, "import", vectors)[0])
        for what, times in taken.items():
            median_s = statistics.median(times)
            print(f"{what:18} {arguments.rows / median_s:9,.0f} rows/s, {median_s:.2f} s")
    finally:
        server.kill()
        server.remove_data()


if __name__ == "__main__":
    main()
