"""Runs with the client's environment: ``chaos_load.py <uri> <seed>``. Eight clients write and read
one collection at once, while another connection flushes and compacts it.

Prints every call that has ended as a JSON line, ``{"ready": true}`` when the calls begin, and
``{"final": ...}`` with all rows when its input has ended. Who reads it judges.

Registers are a few keys that all clients upsert, delete and read, several in one call. Besides each
client has a ledger: keys that it alone inserts, once, and perhaps deletes. A call with an error has
an unknown outcome; a ledger's key with such an insert is not written again, so that no key may ever
have two rows.
"""

import json
import random
import sys
import threading
import time

import grpc
from pymilvus import DataType, MilvusClient, MilvusException

NAME = "chaos"
CLIENTS = 8
REGISTERS = 400
LEDGER = 1_000_000
DIM = 8
READ = {"timeout": 15, "retry_times": 0}
# With a timeout the client would repeat what nginx answers with 502, and write twice.
WRITE = {"retry_times": 0}
FINAL_TIMEOUT_S = 60
PAUSE_S = 0.1
RETRY_S = 0.2
PAGE = 5_000
INDEX = {"index_type": "HNSW", "metric_type": "L2", "params": {"M": 8, "efConstruction": 40}}


def vector(key):
    return [float(key * factor % 1009) for factor in (1, 3, 7, 11, 31, 101, 211, 503)]


def say(line):
    text = json.dumps(line)
    with say.lock:
        print(text, flush=True)


say.lock = threading.Lock()


class Client:
    """One of the clients; ``number`` from 0."""

    def __init__(self, number, seed):
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.version = number
        self.first = (number + 1) * LEDGER
        self.next = self.first
        self.settled = []
        self.present = self.unsure = 0

    def work(self, uri, clients, ended):
        self.milvus, self.clients = connect(uri), clients
        kinds = {
            self.insert: 24,
            self.upsert: 20,
            self.delete: 8,
            self.delete_own: 4,
            self.query: 24,
            self.search: 14,
            self.count: 6,
        }
        while not ended.is_set():
            self.random.choices(list(kinds), list(kinds.values()))[0]()
            time.sleep(self.random.uniform(0.5, 1.5) * PAUSE_S)

    def call(self, kind, act, writes=None, keys=()):
        """The answer, or None after an error. ``keys``: those that are asked for."""
        line = {"client": self.number, "kind": kind, "start": time.monotonic()}
        if keys:
            line["keys"] = keys
        answer = None
        try:
            answer = act()
        except (MilvusException, grpc.RpcError) as error:
            line["error"] = code_of(error)
            line["message"] = str(error)[:200]
        line["end"] = time.monotonic()
        if writes is not None:
            line["writes"] = list(writes.items())
        elif answer is not None:
            line |= self.judged(kind, answer)
        say(line)
        return answer

    def judged(self, kind, answer):
        """What a read has said, in the words of the history."""
        if kind == "count":
            return {"count": answer, "expected": (self.present, self.present + self.unsure)}
        return {"reads": answer}

    def write(self, kind, change, send):
        return self.call(kind, send, change) is not None

    def new_version(self):
        self.version += CLIENTS
        return self.version

    def rows(self, change):
        return [{"id": key, "version": v, "vector": vector(key)} for key, v in change.items()]

    def insert(self):
        count = self.random.choice((1, 5, 20, 60))
        keys = range(self.next, self.next + count)
        self.next += count
        change = dict.fromkeys(keys, self.new_version())
        if self.write(
            "insert", change, lambda: self.milvus.insert(NAME, self.rows(change), **WRITE)
        ):
            self.settled += keys
            self.present += count
        else:
            self.unsure += count

    def upsert(self):
        keys = self.random.sample(range(REGISTERS), self.random.choice((1, 2, 5)))
        change = dict.fromkeys(keys, self.new_version())
        self.write("upsert", change, lambda: self.milvus.upsert(NAME, self.rows(change), **WRITE))

    def delete(self):
        change = dict.fromkeys(self.random.sample(range(REGISTERS), self.random.choice((1, 3))))
        self.write("delete", change, lambda: self.milvus.delete(NAME, ids=list(change), **WRITE))

    def delete_own(self):
        count = min(self.random.choice((1, 10, 30)), len(self.settled))
        if not count:
            return
        start = self.random.randrange(len(self.settled) - count + 1)
        keys = self.settled[start : start + count]
        del self.settled[start : start + count]
        change = dict.fromkeys(keys)
        # From the start of the call on they may be gone, from its end on they are.
        self.present -= count
        self.unsure += count
        if self.write("delete", change, lambda: self.milvus.delete(NAME, ids=keys, **WRITE)):
            self.unsure -= count

    def some_keys(self):
        keys = self.random.sample(range(REGISTERS), 4)
        other = self.random.choice(self.clients)
        if other.next > other.first:
            keys += [self.random.randrange(other.first, other.next) for _ in range(3)]
        return sorted(set(keys))

    def query(self):
        keys = self.some_keys()

        def act():
            rows = self.milvus.query(
                NAME, ids=keys, output_fields=["version"], consistency_level="Strong", **READ
            )
            return versions(keys, [(row["id"], row["version"]) for row in rows])

        self.call("query", act, keys=keys)

    def search(self):
        keys = self.some_keys()

        def act():
            hits = self.milvus.search(
                NAME,
                [vector(keys[0])],
                limit=len(keys) + 1,
                filter=f"id in {keys}",
                output_fields=["version"],
                consistency_level="Strong",
                **READ,
            )[0]
            return versions(keys, [(hit["id"], hit["entity"]["version"]) for hit in hits])

        self.call("search", act, keys=keys)

    def count(self):
        """Of its own ledger, which nobody else changes: a doubled row shows here."""

        def act():
            rows = self.milvus.query(
                NAME,
                filter=f"id >= {self.first} and id < {self.first + LEDGER}",
                output_fields=["count(*)"],
                consistency_level="Strong",
                **READ,
            )
            return rows[0]["count(*)"]

        self.call("count", act)


def versions(keys, found):
    """[key, version or None] of each key; a key with two rows has two entries."""
    there = {key for key, _ in found}
    return [*found, *((key, None) for key in keys if key not in there)]


def code_of(error):
    """Milvus's code, or the name of gRPC's status."""
    code = error.code if isinstance(error, MilvusException) else error.code()
    return getattr(code, "name", code)


def connect(uri):
    while True:
        try:
            return MilvusClient(uri=uri, dedicated=True)
        except (MilvusException, grpc.RpcError):
            time.sleep(RETRY_S)


def create(client):
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("version", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", **INDEX)
    client.create_collection(
        NAME, schema=schema, index_params=index, num_shards=2, consistency_level="Strong"
    )


def maintain(uri, seed, ended):
    """Flush and compact now and then; the index builds follow by themselves."""
    client, chosen = connect(uri), random.Random(seed)
    while not ended.wait(chosen.uniform(1.0, 5.0)):
        kind = "flush" if chosen.random() < 0.8 else "compact"
        line = {"client": -1, "kind": kind, "start": time.monotonic()}
        try:
            getattr(client, kind)(NAME, **READ)
        except (MilvusException, grpc.RpcError) as error:
            line["error"] = code_of(error)
            line["message"] = str(error)[:200]
        say({**line, "end": time.monotonic()})


def final(uri):
    """All rows, and how many there are."""
    client = connect(uri)
    options = {"consistency_level": "Strong", "timeout": FINAL_TIMEOUT_S}
    start = time.monotonic()
    rows, last = [], -1
    while True:
        page = client.query(
            NAME, filter=f"id > {last}", output_fields=["version"], limit=PAGE, **options
        )
        page = sorted((row["id"], row["version"]) for row in page)
        rows += page
        if len(page) < PAGE:
            break
        last = page[-1][0]
    count = client.query(NAME, output_fields=["count(*)"], **options)[0]["count(*)"]
    return {"start": start, "end": time.monotonic(), "rows": rows, "count": count}


def main():
    uri, seed = sys.argv[1], int(sys.argv[2])
    create(connect(uri))
    ended = threading.Event()
    clients = [Client(number, seed) for number in range(CLIENTS)]
    threads = [
        threading.Thread(target=each.work, args=(uri, clients, ended), daemon=True)
        for each in clients
    ]
    threads.append(threading.Thread(target=maintain, args=(uri, seed, ended), daemon=True))
    for thread in threads:
        thread.start()
    say({"ready": True})
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "a client hangs"
    say({"final": final(uri)})


if __name__ == "__main__":
    main()
