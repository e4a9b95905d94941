"""Remote object stores on real servers, for the tests of several folders."""

from pathlib import Path
from typing import Any

import pytest

from elanus.config.storage import MinioSettings
from tests.services.azurite import Azurite
from tests.services.minio import MinioServer
from tests.services.moto import Moto
from tests.services.s3 import S3Service
from tests.services.seaweedfs import SeaweedFS

SERVERS = {"minio": MinioServer, "seaweedfs": SeaweedFS, "moto": Moto, "azurite": Azurite}


class Servers:
    """Starts each kind of server when it is first asked for, and ends them all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, Any] = {}
        self._buckets = 0

    def server(self, kind: str) -> Any:
        if kind not in self._running:
            server = SERVERS[kind](self._directory / kind)
            if not server.package.installed:
                pytest.skip(f"{kind} is not installed: make services-install")
            self._running[kind] = server.start()
        return self._running[kind]

    def settings(self, kind: str, **changes: Any) -> MinioSettings:
        """Settings for a new bucket, which does not exist yet."""
        self._buckets += 1
        return settings_of(self.server(kind), f"bucket-{self._buckets}", **changes)

    def close(self) -> None:
        for server in self._running.values():
            server.kill()


def settings_of(server: S3Service | Azurite, bucket: str, **changes: Any) -> MinioSettings:
    host, _, port = server.endpoint.rpartition(":")
    is_azure = isinstance(server, Azurite)
    values: dict[str, Any] = {
        "address": host,
        "port": int(port),
        "access_key_id": server.account if is_azure else server.access_key,
        "secret_access_key": server.account_key if is_azure else server.secret_key,
        "cloud_provider": "azure" if is_azure else "aws",
        "bucket_name": bucket,
    }
    return MinioSettings(**{**values, **changes})
