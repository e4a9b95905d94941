"""What was acknowledged is seen by the very next Strong read, from any connection."""

import statistics
import time

from pymilvus import MilvusClient

from conftest import URI


def test_every_write_is_seen_by_the_next_strong_read(client, plain, rows):
    other = MilvusClient(uri=URI)
    for number in range(30):
        key = 1_000 + number
        client.insert(plain, [{"id": key, "vector": rows[number]["vector"], "color": "new"}])
        found = other.query(plain, filter=f"id == {key}", output_fields=["color"])
        assert [row["color"] for row in found] == ["new"]
        hits = other.search(plain, [rows[number]["vector"]], limit=2, consistency_level="Strong")[0]
        assert {hit["id"] for hit in hits} == {number, key}
        client.upsert(plain, [{"id": key, "vector": rows[number]["vector"], "color": "newer"}])
        found = other.query(plain, filter=f"id == {key}", output_fields=["color"])
        assert [row["color"] for row in found] == ["newer"]
        client.delete(plain, ids=[key])
        assert other.query(plain, filter=f"id == {key}") == []
        count = other.query(plain, output_fields=["count(*)"])
        assert count[0]["count(*)"] == 200
    other.close()


def test_a_strong_read_does_not_wait_for_a_periodic_tick(client, plain, rows):
    """Strong reads that follow a write are not slower than other reads by a tick of 200 ms."""

    def spent(level, insert):
        times = []
        for number in range(15):
            if insert:
                client.insert(plain, [{"id": 5_000 + number, "vector": rows[0]["vector"]}])
            start = time.perf_counter()
            client.search(plain, [rows[0]["vector"]], limit=1, consistency_level=level)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    assert spent("Strong", True) < 5 * spent("Eventually", False) + 0.05


def test_session_reads_their_own_writes(client, plain, rows):
    for number in range(20):
        client.insert(plain, [{"id": 9_000 + number, "vector": rows[0]["vector"]}])
        found = client.query(plain, filter=f"id == {9_000 + number}", consistency_level="Session")
        assert len(found) == 1
