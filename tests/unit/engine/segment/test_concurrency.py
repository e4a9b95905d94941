"""One writer, many readers, no locks: every read sees a whole prefix of the writes."""

import threading

import numpy as np
from tests.unit.engine.segment.reference import DIM, batch_of, schema_with

from elanus.engine.segment.growing import GrowingSegment
from elanus.model.reads import Snapshot, VectorQuery
from elanus.model.types import DataType, MetricType

WRITES = 300
ROWS = 40


def test_readers_see_whole_writes_in_order_while_one_writer_appends() -> None:
    schema = schema_with(DataType.INT64)
    segment = GrowingSegment(schema, 1, 10)
    applied = [0]
    stop = threading.Event()
    faults: list[str] = []
    progress = [0, 0, 0]

    def read(number: int) -> None:
        random = np.random.default_rng(number)
        query = np.ones((1, DIM), np.float32)
        while not stop.is_set() or progress[number] == 0:
            read_ts = int(random.integers(0, applied[0] + 1))
            snapshot = Snapshot(read_ts)
            count = segment.count(snapshot, None)
            rows = segment.select(snapshot, None)
            hits = segment.search(
                VectorQuery("vector", MetricType.IP, query, 20_000), snapshot, None
            )
            taken = segment.take(hits.offsets[:50], ["pk", "vector"])
            # Each write replaces the one before: its rows are there, the others are gone.
            alive = min(read_ts, 1) * ROWS
            expected = list(range((read_ts - 1) * ROWS, read_ts * ROWS)) if read_ts else []
            if count != alive or rows.keys.tolist() != expected:
                faults.append(f"at {read_ts}: {count} rows, keys {rows.keys.tolist()[:3]}")
            if sorted(hits.keys.tolist()) != expected:
                faults.append(f"at {read_ts}: search found {len(hits.keys)}")
            firsts = [vector[0] for vector in taken.column("vector").to_pylist()]
            if firsts != [float(key) for key in taken.column("pk").to_pylist()]:
                faults.append(f"at {read_ts}: vectors of other rows")
            progress[number] += 1

    readers = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for reader in readers:
        reader.start()
    previous = None
    for ts in range(1, WRITES + 1):
        keys = list(range((ts - 1) * ROWS, ts * ROWS))
        vectors = np.repeat(np.array(keys, np.float32)[:, None], DIM, axis=1)
        batch = batch_of(schema, keys, vectors)
        if previous is not None:
            segment.delete(previous, ts)
        segment.append(batch, ts)
        previous = batch.column("pk")
        applied[0] = ts
    stop.set()
    for reader in readers:
        reader.join(timeout=60)
    assert not faults, faults[:5]
    assert all(progress)
