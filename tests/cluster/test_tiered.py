"""A cluster whose query nodes load more than their disks hold."""

from pathlib import Path
from typing import Any

from tests import tiered_load
from tests.backends import WOODPECKER
from tests.cluster.harness import cluster_on
from tests.tiered_load import Things

COUNTS = {"proxy": 1, "coordinator": 1, "streaming": 1, "query": 2, "data": 1}


def test_query_nodes_serve_more_than_their_caches_hold(
    etcd: Any, minio: Any, tmp_path: Path
) -> None:
    servers = {"etcd": etcd, "minio": minio}
    settings = tiered_load.settings("disable")
    with cluster_on(tmp_path / "c", WOODPECKER, servers, COUNTS, settings) as cluster:
        caches = sorted((tmp_path / "c").rglob("cache"))
        assert len(caches) >= COUNTS["query"]
        things = Things(cluster.uri, caches)
        things.fill()
        things.load_anew()
        things.check()
        things.close()
