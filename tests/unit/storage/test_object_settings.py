"""From settings to the addresses and credentials of an object store."""

from typing import Any

import pytest

from elanus.config.storage import MinioSettings
from elanus.errors import InvalidParameter
from elanus.storage.objects.backends import azure_endpoint, endpoint_of, make_backends


@pytest.mark.parametrize(
    ("changes", "endpoint"),
    [
        ({}, "http://127.0.0.1:9000"),
        ({"address": "minio:9001"}, "http://minio:9001"),
        ({"address": "s3.example.com", "port": 0, "use_ssl": True}, "https://s3.example.com"),
        ({"address": "[::1]", "port": 9_000}, "http://[::1]:9000"),
        ({"address": ""}, ""),
    ],
)
def test_an_endpoint_is_composed(changes: dict[str, Any], endpoint: str) -> None:
    assert endpoint_of(MinioSettings(**changes)) == endpoint


@pytest.mark.parametrize(
    ("address", "virtual", "endpoint"),
    [
        ("127.0.0.1", False, "https://127.0.0.1:443/account"),
        ("core.windows.net", False, "https://account.blob.core.windows.net:443"),
        ("account.blob.core.windows.net", False, "https://account.blob.core.windows.net:443"),
        ("storage.example", True, "https://account.blob.storage.example:443"),
        ("", False, ""),
    ],
)
def test_azure_has_the_account_in_the_host_or_in_the_path(
    address: str, virtual: bool, endpoint: str
) -> None:
    settings = MinioSettings(
        address=address, port=443, use_ssl=True, access_key_id="account", use_virtual_host=virtual
    )
    assert azure_endpoint(settings) == endpoint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"secret_access_key": ""}, "secretAccessKey.*useIAM"),
        ({"cloud_provider": "azure", "access_key_id": ""}, "accessKeyID.*useIAM"),
        ({"cloud_provider": "gcp"}, "gcpCredentialJSON.*useIAM"),
        ({"address": "host:port"}, r"minio\.address.*host:port"),
    ],
)
def test_settings_that_can_not_work_are_refused_by_name(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameter, match=message):
        make_backends(MinioSettings(**changes))


def test_where_a_store_is_names_no_secret() -> None:
    backends = make_backends(MinioSettings(secret_access_key="hidden", root_path="/files/"))
    assert backends.where == "aws bucket a-bucket/files at http://127.0.0.1:9000"
    assert "hidden" not in repr(backends)
