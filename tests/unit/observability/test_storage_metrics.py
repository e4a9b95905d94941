"""The metrics show what storage has cost: requests, bytes, retries, fragments, merges."""

from obstore.exceptions import GenericError
from tests.unit.storage.test_object_retry import BUSY, Fixture, failing
from tests.unit.storage.test_woodpecker import Bucket, rolling
from tests.unit.storage.test_woodpecker_crashes import idle

from elanus.observability.metrics import Metrics
from elanus.roles.readings import add_storage_readings
from elanus.storage.wal.memory import MemoryWal


def samples(metrics: Metrics) -> dict[str, int]:
    lines = metrics.render().decode().splitlines()
    return {
        name: int(float(value))
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


async def test_requests_to_objects_are_counted_with_their_retries() -> None:
    fixture = Fixture()
    bucket = Bucket()
    bucket.store.request_stats = fixture.stats
    metrics = Metrics()
    add_storage_readings(metrics, bucket.store, MemoryWal())
    await fixture.requests.run("put", "k", failing(2, GenericError(BUSY)))
    fixture.stats.add_bytes(sent=10)
    found = samples(metrics)
    assert found['elanus_object_requests_total{operation="put",outcome="ok"}'] == 1
    assert found['elanus_object_requests_total{operation="put",outcome="retried"}'] == 2
    assert found['elanus_object_bytes_total{direction="sent"}'] == 10
    assert found['elanus_object_bytes_total{direction="received"}'] == 0


async def test_a_log_in_objects_counts_what_it_writes_and_merges() -> None:
    bucket = Bucket()
    wal, _ = bucket.process(rolling(blocks=10))
    metrics = Metrics()
    add_storage_readings(metrics, bucket.store, wal)
    writer = await wal.open_writer("p", 1)
    for _ in range(25):
        await writer.append([[b"a"], [b"b"]])
    await idle(3_000)
    found = samples(metrics)
    assert found['elanus_wal_activity_total{kind="appends"}'] == 25
    assert found['elanus_wal_activity_total{kind="records"}'] == 50
    assert found['elanus_wal_activity_total{kind="fragments"}'] == 25
    assert found['elanus_wal_activity_total{kind="merges"}'] == 2
    fence, seals, copies = 1, 2, 2
    assert found['elanus_wal_activity_total{kind="puts"}'] == 25 + fence + seals + copies
    assert found['elanus_wal_bytes_total{direction="sent"}'] > 50
    await wal.close()
