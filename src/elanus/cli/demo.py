"""``elanus demo``: load the bundled words into a server and search them by meaning."""

import statistics
import time

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from elanus.cli.rest_client import RestClient, ServerError
from elanus.sample import DIMENSION, Sample, load_sample

COLLECTION = "words"
QUERIES = ("king", "ocean", "guitar", "monday", "physics")
ROWS_PER_INSERT = 1_000
NEIGHBOURS = 10
SHOWN = 4
REPEATS = 5
READY_TIMEOUT_S = 300.0


def run_demo(uri: str, console: Console, *, only_if_empty: bool) -> None:
    """Raises ServerError."""
    client = RestClient(uri)
    try:
        collections = client.call("collections/list")
        if only_if_empty and collections:
            return
        sample = load_sample()
        if COLLECTION not in collections:
            _load(client, console, sample)
        _search(client, console, sample)
        _how_to_connect(client.uri, console)
    finally:
        client.close()


def _load(client: RestClient, console: Console, sample: Sample) -> None:
    client.call(
        "collections/create",
        {
            "collectionName": COLLECTION,
            "schema": {
                "fields": [
                    {"fieldName": "rank", "dataType": "Int64", "isPrimary": True},
                    {
                        "fieldName": "word",
                        "dataType": "VarChar",
                        "elementTypeParams": {"max_length": 64},
                    },
                    {
                        "fieldName": "vector",
                        "dataType": "FloatVector",
                        "elementTypeParams": {"dim": DIMENSION},
                    },
                ]
            },
            "indexParams": [
                {
                    "fieldName": "vector",
                    "metricType": "COSINE",
                    "indexType": "HNSW",
                    "params": {"M": 16, "efConstruction": 200},
                }
            ],
        },
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    rows = len(sample.words)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("loading the sample", total=rows)
        for start in range(0, rows, ROWS_PER_INSERT):
            end = min(start + ROWS_PER_INSERT, rows)
            data = [
                {"rank": int(rank), "word": word, "vector": vector}
                for rank, word, vector in zip(
                    sample.ranks[start:end],
                    sample.words[start:end],
                    sample.vectors[start:end],
                    strict=True,
                )
            ]
            client.call("entities/insert", {"collectionName": COLLECTION, "data": data})
            progress.advance(task, end - start)
    client.call("collections/flush", {"collectionName": COLLECTION})
    with console.status("building the index"):
        _wait_until_indexed(client, rows)


def _wait_until_indexed(client: RestClient, rows: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        body = {"collectionName": COLLECTION, "indexName": "vector"}
        index = client.call("indexes/describe", body)[0]
        if index["indexedRows"] >= rows and index["pendingRows"] == 0:
            return
        if index["failReason"]:
            raise ServerError(f"the index could not be built: {index['failReason']}")
        if time.monotonic() > deadline:
            raise ServerError(f"the index was not ready within {READY_TIMEOUT_S:.0f} s")
        time.sleep(0.2)


def _search(client: RestClient, console: Console, sample: Sample) -> None:
    normalised = sample.vectors / np.linalg.norm(sample.vectors, axis=1, keepdims=True)
    table = Table(title=f"Nearest of {len(sample.words):,} words by meaning (HNSW, COSINE)")
    for header in ("query", "neighbours (score)", "latency", f"recall@{NEIGHBOURS}"):
        table.add_column(header, justify="left" if header.startswith(("q", "n")) else "right")
    for word in QUERIES:
        row = sample.words.index(word)
        body = {
            "collectionName": COLLECTION,
            "data": [sample.vectors[row]],
            "filter": f"rank != {row + 1}",
            "limit": NEIGHBOURS,
            "outputFields": ["word"],
            "searchParams": {"params": {"ef": 64}},
        }
        spent_s = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            hits = client.call("entities/search", body)
            spent_s.append(time.perf_counter() - start)
        latency_ms = statistics.median(spent_s) * 1e3
        found = {hit["rank"] - 1 for hit in hits}
        recall = len(found & _exact(normalised, row)) / NEIGHBOURS
        shown = "  ".join(f"{hit['word']} ({hit['distance']:.3f})" for hit in hits[:SHOWN])
        table.add_row(word, shown, f"{latency_ms:.1f} ms", f"{recall:.2f}")
    console.print(table)


def _exact(normalised: npt.NDArray[np.float32], row: int) -> set[int]:
    scores = normalised @ normalised[row]
    scores[row] = -np.inf
    return {int(index) for index in np.argpartition(-scores, NEIGHBOURS)[:NEIGHBOURS]}


def _how_to_connect(uri: str, console: Console) -> None:
    console.print(
        "\nConnect with what you have, for example [bold]pip install pymilvus[/bold]:\n\n"
        "  from pymilvus import MilvusClient\n"
        f'  client = MilvusClient(uri="{uri}")\n'
        f'  client.query("{COLLECTION}", filter=\'word like "sea%"\', output_fields=["word"])\n',
        highlight=False,
    )
