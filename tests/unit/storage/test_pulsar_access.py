"""Credentials for Pulsar: what is missing is said, what is secret is not."""

import pytest

from elanus.config.storage import PulsarSettings
from elanus.errors import InvalidParameter
from elanus.storage.wal._pulsar_client import credentials


@pytest.mark.parametrize(
    ("plugin", "params", "expected"),
    [
        ("", "", {}),
        ("token", "token:ey.x:y", {"token": "ey.x:y"}),
        ("tls", "tlsCertFile:/c,tlsKeyFile:/k", {"tlsCertFile": "/c", "tlsKeyFile": "/k"}),
        ("basic", "userId:u, password:p", {"userId": "u", "password": "p"}),
    ],
)
def test_parameters_are_pairs(plugin: str, params: str, expected: dict[str, str]) -> None:
    assert credentials(PulsarSettings(auth_plugin=plugin, auth_params=params)) == expected


@pytest.mark.parametrize(
    ("plugin", "params", "message"),
    [
        ("kerberos", "secret:secret", "expected=token, tls or basic"),
        ("basic", "userId:secret", "has no password"),
        ("token", "secret", "no colon in its pair 1 of 1"),
    ],
)
def test_what_is_wrong_is_said_without_secrets(plugin: str, params: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as raised:
        credentials(PulsarSettings(auth_plugin=plugin, auth_params=params))
    assert "secret" not in str(raised.value)
