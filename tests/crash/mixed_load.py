"""A mixed load through an unmodified client, with an oracle; the server is killed again and again.

Runs with the client's environment: ``mixed_load.py <rounds> <seed> <port> <health port> <server
command ...>``. Three writers own a third of the keys each and write one batch after another. A
batch whose answer did not come is *pending*: after the restart it must be there as a whole or not
at all. Exits with 1 and says what is wrong if the server's rows are not what they must be.
"""

import logging
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
from pymilvus import DataType, MilvusClient, MilvusException

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

NAME = "crash"
DIM = 8
WRITERS = 3
KEYS_PER_WRITER = 3_000
ONCE = {"retry_times": 0, "timeout": 120}
INDEX = {"index_type": "HNSW", "metric_type": "L2", "params": {"M": 8, "efConstruction": 40}}


def vector(key, version):
    return np.random.default_rng(key * 1_000_003 + version).normal(size=DIM).astype(np.float32)


class Writer:
    """``rows``: key → version of everything acknowledged; ``pending``: key → version or None."""

    def __init__(self, number, seed):
        self.keys = range(number * KEYS_PER_WRITER, (number + 1) * KEYS_PER_WRITER)
        self.random = random.Random(f"{seed}/{number}")
        self.rows = {}
        self.pending = {}
        self.version = 0
        self.acknowledged = 0

    def run(self, client, stop):
        while not stop.is_set() and not self.pending:
            self.step(client)

    def step(self, client):
        self.version += 1
        kind = self.random.choices(["insert", "upsert", "delete", "delete_by_filter"], [5, 4, 2, 1])
        count = self.random.choice([1, 5, 50, 400])
        absent = [key for key in self.keys if key not in self.rows]
        present = list(self.rows)
        if kind[0] == "insert" and absent:
            change = dict.fromkeys(self.pick(absent, count), self.version)
            self.commit(change, lambda: client.insert(NAME, self.data(change), **ONCE))
        elif kind[0] == "upsert":
            change = dict.fromkeys(self.pick(list(self.keys), count), self.version)
            self.commit(change, lambda: client.upsert(NAME, self.data(change), **ONCE))
        elif kind[0] == "delete" and present:
            change = dict.fromkeys(self.pick(present, count))
            self.commit(change, lambda: client.delete(NAME, ids=list(change), **ONCE))
        elif present:
            low = self.random.choice(present)
            high = min(low + count, self.keys.stop)
            change = {key: None for key in present if low <= key < high}
            expression = f"id >= {low} and id < {high}"
            self.commit(change, lambda: client.delete(NAME, filter=expression, **ONCE))

    def pick(self, keys, count):
        return self.random.sample(keys, min(count, len(keys)))

    @staticmethod
    def data(change):
        return [
            {"id": key, "version": version, "vector": vector(key, version)}
            for key, version in change.items()
        ]

    def commit(self, change, call):
        self.pending = change
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever it was, the outcome is unknown
            self.error = error
            return
        self.apply(change)
        self.acknowledged += 1

    def apply(self, change):
        for key, version in change.items():
            if version is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = version
        self.pending = {}

    def settle(self, found):
        """``found``: key → version in the server. Raises AssertionError if that can't be."""
        if found == self.rows:
            self.pending = {}
            return
        before = dict(self.rows)
        self.apply(self.pending)
        if found != self.rows:
            for name, expected in (("without", before), ("with", self.rows)):
                lost = sorted(set(expected.items()) - set(found.items()))
                extra = sorted(set(found.items()) - set(expected.items()))
                print(f"{name} the pending batch: lost {lost[:9]} extra {extra[:9]}")
            raise AssertionError("the rows are not those of the acknowledged writes")


class Server:
    def __init__(self, command, port, health_port):
        self.command = command
        self.uri = f"http://127.0.0.1:{port}"
        self.health = f"http://127.0.0.1:{health_port}/healthz"

    def start(self):
        with open("server.log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(self.health, timeout=5):
                    return self.connect()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError("the server does not come back") from None
                time.sleep(0.02)

    def connect(self):
        # gRPC shares its sockets in a process, and one that failed waits before it tries again.
        deadline = time.monotonic() + 30
        while True:
            try:
                return MilvusClient(uri=self.uri, dedicated=True)
            except MilvusException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def create(client):
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("version", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", **INDEX)
    client.create_collection(NAME, schema=schema, index_params=index, consistency_level="Strong")


def verify(client, writers):
    for writer in writers:
        expression = f"id >= {writer.keys.start} and id < {writer.keys.stop}"
        rows = client.query(NAME, filter=expression, output_fields=["version", "vector"])
        found = {row["id"]: row["version"] for row in rows}
        writer.settle(found)
        for row in random.sample(rows, min(20, len(rows))):
            expected = vector(row["id"], row["version"])
            assert np.allclose(row["vector"], expected, atol=1e-6), row["id"]
    total = sum(len(writer.rows) for writer in writers)
    count = client.query(NAME, output_fields=["count(*)"])[0]["count(*)"]
    assert count == total, f"count(*) is {count}, {total} rows were acknowledged"
    for writer in writers:
        for key in random.sample(list(writer.rows), min(5, len(writer.rows))):
            query = vector(key, writer.rows[key])
            hits = client.search(NAME, [query], limit=1, search_params={"params": {"ef": 64}})[0]
            assert hits[0]["id"] == key, f"row {key} is not its own nearest neighbour"


def maintain(client, stop, seed):
    """Flush and compact now and then; the index builds follow by themselves."""
    chosen = random.Random(seed)
    while not stop.wait(chosen.uniform(0.05, 0.4)):
        try:
            if chosen.random() < 0.7:
                client.flush(NAME, timeout=5, retry_times=0)
            else:
                client.compact(NAME, timeout=5, retry_times=0)
        except Exception as error:  # noqa: BLE001 - the server may have been killed
            if stop.is_set():
                return
            print("maintenance:", str(error)[:200])


def main():
    rounds, seed, port, health_port, *command = sys.argv[1:]
    seed = int(seed)
    moments = random.Random(seed)
    server = Server(command, port, health_port)
    writers = [Writer(number, seed) for number in range(WRITERS)]
    try:
        run(int(rounds), seed, moments, server, writers)
    finally:
        server.kill()


def run(rounds, seed, moments, server, writers):
    client = server.start()
    create(client)
    for number in range(rounds):
        stop = threading.Event()
        threads = [
            threading.Thread(target=writer.run, args=(server.connect(), stop)) for writer in writers
        ]
        threads.append(threading.Thread(target=maintain, args=(client, stop, seed + number)))
        for thread in threads:
            thread.start()
        time.sleep(moments.uniform(0.1, 2.5))
        server.kill()
        stop.set()
        started = time.monotonic()
        client = server.start()
        back_s = time.monotonic() - started
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a client hangs"
        verify(client, writers)
        done = sum(writer.acknowledged for writer in writers)
        rows = sum(len(writer.rows) for writer in writers)
        print(f"round {number}: {done} batches, {rows} rows, back in {back_s:.2f} s", flush=True)


if __name__ == "__main__":
    main()
