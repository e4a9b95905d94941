"""Top-10 of sparse vectors against products of SciPy, in one run on one thread.

100,000 documents of about 80 values, indices drawn as words are: few are frequent. Prints for each
way the milliseconds of a query, as a ratio to the best product of SciPy.

    python -m benchmarks.sparse
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy import sparse

from elanus.engine.index.files import build_index, open_index
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.column import SparseColumn
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.model.vectors import sparse_column

ROWS, WORDS, LENGTH, TERMS, QUERIES, TOP_K = 100_000, 30_000, 80, 30, 50, 10
ROUNDS = 3


def drawn(random: np.random.Generator, rows: int, length: int) -> sparse.csr_array:
    weights = 1 / np.arange(1, WORDS + 1) ** 0.7
    chosen = random.choice(WORDS, rows * length, p=weights / weights.sum()).astype(np.int32)
    offsets = np.arange(0, rows * length + 1, length, dtype=np.int32)
    values = random.random(rows * length, dtype=np.float32) + np.float32(0.01)
    matrix = sparse.csr_array((values, chosen, offsets), shape=(rows, WORDS))
    matrix.sum_duplicates()
    return matrix


def as_column(matrix: sparse.csr_array) -> object:
    return sparse_column(matrix.indptr, matrix.indices.astype(np.uint32), matrix.data)


def best(scores: np.ndarray) -> np.ndarray:
    top = np.argpartition(scores, len(scores) - TOP_K)[-TOP_K:]
    return top[np.argsort(-scores[top])]


def measured(run: Callable[[int], object]) -> float:
    """ms of a query, the best of some rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for number in range(QUERIES):
            run(number)
        times.append((time.perf_counter() - start) / QUERIES * 1_000)
    return min(times)


def main() -> None:
    random = np.random.default_rng(0)
    documents, queries = drawn(random, ROWS, LENGTH), drawn(random, QUERIES, TERMS)
    column, by_term = as_column(documents), documents.tocsc()
    with TemporaryDirectory() as directory:
        path = str(Path(directory) / "index")
        start = time.perf_counter()
        build_index("SPARSE_INVERTED_INDEX", MetricType.IP, {}, column, path)
        built = time.perf_counter() - start
        size = Path(path).stat().st_size
        index = open_index(path, "SPARSE_INVERTED_INDEX", MetricType.IP, ROWS, 0)
        rows = SparseColumn([column])
        interim = rows.extended(MetricType.IP, None)
        asked = [as_column(queries[[number]]) for number in range(QUERIES)]
        some = RowSet(ROWS, mask=random.random(ROWS) < 0.1)

        def query(number: int, **params: float) -> VectorQuery:
            return VectorQuery("v", MetricType.IP, asked[number], TOP_K, params)

        def columns(number: int) -> np.ndarray:
            words, values = queries[[number]].indices, queries[[number]].data
            return best(by_term[:, words] @ values)

        ways: dict[str, Callable[[int], object]] = {
            "SciPy, the query's columns": columns,
            "SciPy, the whole matrix": lambda n: best(documents @ queries[[n]].toarray()[0]),
            "index": lambda n: index.search(rows, query(n), None),
            "index, 10 % of the rows": lambda n: index.search(rows, query(n), some),
            "index, drop_ratio_search 0.3": lambda n: index.search(
                rows, query(n, drop_ratio_search=0.3), None
            ),
            "interim index": lambda n: rows.search(query(n), ROWS, None, interim),
            "row by row": lambda n: rows.search(query(n), ROWS, None, None),
        }
        for number in range(QUERIES):
            found = index.search(rows, query(number), None).offsets
            assert set(found) == set(columns(number))
        print(f"built in {built:.1f} s, {size / 2**20:.0f} MiB")
        times = {name: measured(run) for name, run in ways.items()}
        least = min(times["SciPy, the query's columns"], times["SciPy, the whole matrix"])
        for name, spent in times.items():
            print(f"{name:30} {spent:8.2f} ms {spent / least:6.2f}")


if __name__ == "__main__":
    main()
