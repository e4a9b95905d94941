"""A server on an object store whose local disk holds a part of what is loaded."""

import urllib.request
from pathlib import Path

import pytest
from tests import tiered_load
from tests.backends import Combination, servers_of, settings_of
from tests.server import RunningServer
from tests.tiered_load import Things


def _metric(server: RunningServer, name: str) -> float:
    url = f"http://127.0.0.1:{server.management_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.mark.parametrize("warmup", ["sync", "disable"])
def test_a_collection_larger_than_the_cache_is_served_whole(
    tmp_path: Path, warmup: str, request: pytest.FixtureRequest
) -> None:
    combination = Combination("sqlite", "remote", "local")
    place = settings_of(combination, servers_of(combination, request), f"tiered-{warmup}")
    place |= tiered_load.settings(warmup)
    with RunningServer(tmp_path / "data", place) as server:
        things = Things(server.uri, [tmp_path / "data" / "cache"])
        things.fill()
        things.load_anew()
        things.check()
        things.close()
        assert _metric(server, 'elanus_object_cache_files_total{event="evicted"}') > 0
        limit = _metric(server, 'elanus_object_cache_bytes{kind="limit"}')
        assert _metric(server, 'elanus_object_cache_bytes{kind="loaded"}') <= limit
