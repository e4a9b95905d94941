"""Settings for remote object stores on the real servers of ``tests/services``."""

from itertools import count
from typing import Any, Protocol

from elanus.config.storage import MinioSettings
from tests.services.gcs import GcsStandIn

BUCKET = "elanus"
_numbers = count(1)


class ObjectServer(Protocol):
    name: Any

    @property
    def endpoint(self) -> str: ...


def remote_settings(server: ObjectServer, **changes: Any) -> MinioSettings:
    """For a prefix of its own in a bucket that all share; a server may bear few buckets."""
    return MinioSettings(**{**_values(server), **changes})


def behind(proxy_endpoint: str, server: ObjectServer, **changes: Any) -> MinioSettings:
    """As ``remote_settings``, through a proxy."""
    host, _, port = proxy_endpoint.rpartition(":")
    return remote_settings(server, **{"address": host, "port": int(port), **changes})


def _values(server: Any) -> dict[str, Any]:
    if isinstance(server, GcsStandIn):
        server.make_bucket(BUCKET)
        return {
            "address": "",
            "cloud_provider": "gcp",
            "gcp_credential_json": server.service_account_key,
            "bucket_name": BUCKET,
            "root_path": f"case-{next(_numbers)}",
        }
    host, _, port = server.endpoint.rpartition(":")
    is_azure = server.name == "azurite"
    return {
        "address": host,
        "port": int(port),
        "access_key_id": server.account if is_azure else server.access_key,
        "secret_access_key": server.account_key if is_azure else server.secret_key,
        "cloud_provider": "azure" if is_azure else "aws",
        "bucket_name": BUCKET,
        "root_path": f"case-{next(_numbers)}",
    }
