"""The combinations of storage backends that a server runs on, and the settings that name them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Combination:
    """Where metadata, objects and log are kept."""

    metastore: str
    storage: str
    mq: str

    def __str__(self) -> str:
        return f"{self.metastore}-{self.storage}-{self.mq}"

    @property
    def servers(self) -> tuple[str, ...]:
        """Names of the real servers that it needs, as their fixtures are called."""
        wanted = {"etcd": self.metastore == "etcd", "minio": self.storage == "remote"}
        wanted |= {name: self.mq == name for name in ("kafka", "pulsar")}
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)


EMBEDDED = Combination("sqlite", "local", "local")
WOODPECKER = Combination("etcd", "remote", "woodpecker")
KAFKA = Combination("etcd", "remote", "kafka")
PULSAR = Combination("etcd", "remote", "pulsar")
LOCAL_WOODPECKER = Combination("sqlite", "local", "woodpecker")
COMBINATIONS = [EMBEDDED, WOODPECKER, KAFKA, PULSAR, LOCAL_WOODPECKER]


def servers_of(combination: Combination, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The session's servers; skips the test if one of them isn't installed."""
    return {name: request.getfixturevalue(name) for name in combination.servers}


def settings_of(
    combination: Combination,
    servers: Mapping[str, Any],
    name: str,
    *,
    through: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """Settings of a place of its own, called ``name``, on ``servers``.

    ``through``: host:port of proxies in front of servers, by the servers' names.
    """
    through = through or {}
    settings: dict[str, object] = {
        "metastore.type": combination.metastore,
        "common.storageType": combination.storage,
        "mq.type": combination.mq,
        "msgChannel.chanNamePrefix.cluster": name,
    }
    if "etcd" in servers:
        endpoint = through.get("etcd", servers["etcd"].endpoint)
        settings |= {"etcd.endpoints": endpoint, "etcd.rootPath": name}
    if "minio" in servers:
        minio = servers["minio"]
        host, _, port = through.get("minio", minio.endpoint).rpartition(":")
        settings |= {
            "minio.address": host,
            "minio.port": int(port),
            "minio.accessKeyID": minio.access_key,
            "minio.secretAccessKey": minio.secret_key,
            "minio.bucketName": "elanus-test",
            "minio.rootPath": name,
        }
    if "kafka" in servers:
        settings["kafka.brokerList"] = servers["kafka"].address
    if "pulsar" in servers:
        pulsar = servers["pulsar"]
        settings |= {"pulsar.address": pulsar.address, "pulsar.webAddress": pulsar.http_address}
    return settings
