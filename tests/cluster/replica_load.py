"""Searches and deletes through pymilvus until stdin closes; run by the clients' interpreter.

Prints a JSON line twice a second: reads, those that needed a second try, those that failed then,
and wrong answers, with an example of each.
"""

import json
import sys
import threading
import time
from typing import Any

from pymilvus import DataType, MilvusClient, MilvusException

NAME = "replicated"
SEGMENTS, ROWS, DIM = 8, 250, 8
SEARCHERS = 3
PAUSE_S = 0.05


def vector(key: int) -> list[float]:
    return [float(key)] * DIM


def fill(client: MilvusClient, replicas: int) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("v", index_type="FLAT", metric_type="L2")
    client.create_collection(NAME, schema=schema, index_params=index, num_shards=1)
    client.release_collection(NAME)
    for number in range(SEGMENTS):
        keys = range(number * ROWS, (number + 1) * ROWS)
        client.insert(NAME, [{"id": key, "v": vector(key)} for key in keys])
        client.flush(NAME)
    client.load_collection(NAME, replica_number=replicas)


class Tally:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts = {"reads": 0, "retried": 0, "failed": 0, "wrong": 0}
        self.examples: dict[str, str] = {}

    def note(self, kind: str, example: str = "") -> None:
        with self.lock:
            self.counts[kind] += 1
            if example:
                self.examples.setdefault(kind, example[:300])

    def read(self, ask: Any, is_right: Any) -> None:
        """One read, tried twice."""
        for kind in ("retried", "failed"):
            try:
                answer = ask()
            except MilvusException as error:
                self.note(kind, f"{error.code}: {error.message}")
            else:
                if not is_right(answer):
                    self.note("wrong", str(answer))
                break
        self.note("reads")


def search(uri: str, tally: Tally, number: int, ended: threading.Event) -> None:
    client = MilvusClient(uri)
    key = number
    while not ended.is_set():
        key = (key + 761) % (SEGMENTS * ROWS)
        # Odd keys stay, even ones may have been deleted.
        wanted = key | 1
        tally.read(
            lambda wanted=wanted: client.search(
                NAME, [vector(wanted)], limit=1, output_fields=["id"], timeout=20
            ),
            lambda found, wanted=wanted: found[0][0]["entity"]["id"] == wanted,
        )


def delete(uri: str, tally: Tally, ended: threading.Event) -> None:
    """One row after the other; a Strong count knows of each at once."""
    client = MilvusClient(uri)
    left = SEGMENTS * ROWS
    for key in range(0, SEGMENTS * ROWS, 2):
        if ended.is_set():
            return
        client.delete(NAME, ids=[key], timeout=30)
        left -= 1
        tally.read(
            lambda: client.query(
                NAME, output_fields=["count(*)"], consistency_level="Strong", timeout=20
            ),
            lambda found, left=left: found[0]["count(*)"] == left,
        )
        time.sleep(PAUSE_S)


def main(uri: str, replicas: str) -> None:
    fill(MilvusClient(uri), int(replicas))
    tally, ended = Tally(), threading.Event()
    threads = [
        threading.Thread(target=search, args=(uri, tally, n, ended)) for n in range(SEARCHERS)
    ]
    threads.append(threading.Thread(target=delete, args=(uri, tally, ended)))
    for thread in threads:
        thread.start()

    def report() -> None:
        while not ended.wait(0.5):
            print(json.dumps({**tally.counts, "examples": tally.examples}), flush=True)

    reporting = threading.Thread(target=report)
    reporting.start()
    sys.stdin.read()
    ended.set()
    for thread in [*threads, reporting]:
        thread.join()
    print(json.dumps({**tally.counts, "examples": tally.examples}), flush=True)


main(*sys.argv[1:])
