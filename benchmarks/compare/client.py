"""What the unmodified client does and measures. Runs with the client's own environment.

``client.py <command> <uri> <data.npz> [json options]`` prints one JSON object.
"""

import json
import logging
import os
import socket
import sys
import threading
import time

import light
import numpy as np
from pymilvus import (
    Collection,
    CollectionSchema,
    DataType,
    FieldSchema,
    MilvusException,
    connections,
)

NAME = "bench"
BATCH = 5_000
INDEX = {
    "index_type": "HNSW",
    "metric_type": "COSINE",
    "params": {"M": 16, "efConstruction": 200},
}


def collection() -> Collection:
    return Collection(NAME)


def create(name):
    schema = CollectionSchema(
        [
            FieldSchema("id", DataType.INT64, is_primary=True),
            FieldSchema("bucket", DataType.INT64),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=100),
        ]
    )
    return Collection(name, schema)


def insert(target, rows, bucket):
    """Returns the seconds that it took."""
    started = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        end = min(start + BATCH, len(rows))
        target.insert([np.arange(start, end), bucket[start:end], rows[start:end]])
    return time.perf_counter() - started


def bulk(data, options):
    """Insert into a collection of its own, and drop it."""
    count = options["rows"]
    target = create("bulk")
    spent_s = insert(target, data["rows"][:count], data["bucket"][:count])
    target.drop()
    return {"insert_rows_per_s": count / spent_s}


def load(data, options):
    target = create(NAME)
    rows = data["rows"]
    started = time.perf_counter()
    insert_s = insert(target, rows, data["bucket"])
    target.flush()
    flush_s = time.perf_counter() - started - insert_s
    target.create_index("vector", {**INDEX, "params": {**INDEX["params"], **options}})
    wait_indexed(target, len(rows))
    index_s = time.perf_counter() - started - insert_s - flush_s
    target.load()
    return {"insert_s": insert_s, "flush_s": flush_s, "index_s": index_s}


def wait_indexed(target, rows):
    from pymilvus import utility

    deadline = time.monotonic() + 1_800
    while time.monotonic() < deadline:
        progress = utility.index_building_progress(NAME)
        if progress["indexed_rows"] >= rows and not progress.get("pending_index_rows"):
            return
        time.sleep(0.5)
    raise TimeoutError("the index is not complete after 30 minutes")


def search(target, vectors, ef, expr="", consistency="Bounded"):
    return target.search(
        vectors,
        "vector",
        {"metric_type": "COSINE", "params": {"ef": ef}},
        limit=10,
        expr=expr or None,
        consistency_level=consistency,
    )


def recall_of(target, data, ef, number, expr):
    queries, truth = data["queries"], data["truth"][number]
    found = 0
    for start in range(0, len(queries), 100):
        answers = search(target, queries[start : start + 100], ef, expr)
        for answer, exact in zip(answers, truth[start : start + 100], strict=True):
            found += len(set(answer.ids) & set(exact.tolist()))
    return found / truth.size


def curve(data, options):
    target = collection()
    return {str(ef): recall_of(target, data, ef, 0, "") for ef in options["efs"]}


def filtered(data, options):
    target = collection()
    return {
        expr: recall_of(target, data, options["ef"], number, expr)
        for number, expr in enumerate(options["filters"])
    }


def latency(data, options):
    target = collection()
    spent = []
    for number in range(options["searches"] + 50):
        query = data["queries"][number % 1_000 : number % 1_000 + 1]
        started = time.perf_counter()
        search(target, query, options["ef"])
        spent.append(time.perf_counter() - started)
    milliseconds = np.array(spent[50:]) * 1e3
    p50_ms, p99_ms = np.percentile(milliseconds, [50, 99])
    return {"search_p50_ms": p50_ms, "search_p99_ms": p99_ms}


def throughput(data, options):
    """One of the concurrent clients: waits for the common start, searches until the end."""
    target = collection()
    queries, consistency = data["queries"], options.get("consistency", "Bounded")

    def ask(number):
        return search(target, queries[number : number + 1], options["ef"], consistency=consistency)

    for number in range(20):
        ask(number)
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + options["seconds"]
    done = options["offset"]
    first = done
    while time.monotonic() < end:
        assert len(ask(done % 1_000)[0]) == 10
        done += 1
    return {"searches": done - first}


def inserting(data, options):
    """Insert ``rate`` rows a second in ten batches a second."""
    target = collection()
    rows = data["rows"]
    print("ready", flush=True)
    sys.stdin.readline()
    size = options["rate"] // 10
    started = time.monotonic()
    sent = 0
    while time.monotonic() < started + options["seconds"]:
        ids = np.arange(sent, sent + size) + options["first_id"]
        target.insert([ids, ids % 1_000, rows[ids % len(rows)]])
        sent += size
        time.sleep(max(0.0, started + sent / options["rate"] - time.monotonic()))
    return {"inserted": sent, "rows_per_s": sent / (time.monotonic() - started)}


def light_throughput(data, options):
    """``throughput`` by a client that costs next to nothing."""
    return light.searches(NAME, data, options)


def light_inserting(data, options):
    """``inserting`` by such a client."""
    return light.inserts(NAME, data, options)


def light_alternating(data, options):
    """Searches of several servers by turns."""
    return light.alternating_searches(NAME, data, options)


def light_alternating_inserting(data, options):
    """Inserts into several servers by turns."""
    return light.alternating_inserts(NAME, data, options)


def strong(data, options):
    """A Strong search that follows an insert at once and must see it."""
    target = collection()
    spent = []
    for number in range(options["rounds"]):
        vector = data["queries"][number : number + 1]
        identifier = 10_000_000 + number
        target.insert([[identifier], [0], vector])
        started = time.perf_counter()
        answer = search(target, vector, options["ef"], consistency="Strong")
        spent.append(time.perf_counter() - started)
        if answer[0].ids[0] != identifier:
            raise AssertionError(f"row {identifier} was not seen by a Strong search")
    target.delete(f"id >= {10_000_000} and id < {10_000_000 + options['rounds']}")
    return {"strong_search_p50_ms": np.percentile(np.array(spent) * 1e3, 50)}


def first_answer(data, options):
    """Connect as soon as somebody listens, then search until a whole answer comes."""
    print("ready", flush=True)
    sys.stdin.readline()
    wait_for_port(options["port"])
    connect(options["uri"], patience_s=120)
    target = None
    while True:
        try:
            target = target or collection()
            answer = search(target, data["queries"][:1], options["ef"])
            if len(answer[0]) == 10:
                return {"hits": len(answer[0])}
        except MilvusException:
            time.sleep(0.02)


def wait_for_port(port):
    """Without gRPC, which waits longer and longer between its attempts."""
    deadline = time.monotonic() + 300
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def connect(uri, patience_s):
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connections.connect(uri=uri, timeout=2)
            return
        except MilvusException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def main():
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    command, uri, path, *rest = sys.argv[1:]
    options = json.loads(rest[0]) if rest else {}
    data = np.load(path)
    data = {key: data[key] for key in data.files}
    if command != "first_answer":
        connect(uri, patience_s=60)
    watchdog = threading.Timer(3_600, lambda: os._exit(1))
    watchdog.daemon = True
    watchdog.start()
    print(json.dumps(globals()[command](data, options)), flush=True)


if __name__ == "__main__":
    main()
