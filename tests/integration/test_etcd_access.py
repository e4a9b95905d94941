"""Metadata in an etcd that wants TLS, certificates, or a user and a password."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.etcd_load import open_store
from tests.services.certificates import make_certificates
from tests.services.etcd import Etcd

from elanus.config.storage import EtcdAuthSettings, EtcdSettings, EtcdSslSettings
from elanus.errors import Unavailable
from elanus.storage.meta.base import Compare, MetaStore, Put

OwnService = Callable[..., Any]

ROOT_PASSWORD = "root-secret"
PASSWORD = "node-secret"
ROOT_PATH = "mine"


class GuardedEtcd(Etcd):
    """Wants a password, and knows a user who has but the prefix of a cluster."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, root_password=ROOT_PASSWORD, **options)
        self._has_users = False

    def initialize(self) -> None:
        if self._has_users:
            return
        super().initialize()
        token = self.token()
        self.call("auth/user/add", {"name": "node", "password": PASSWORD}, token=token)
        self.call("auth/role/add", {"name": "nodes"}, token=token)
        prefix = {"key": base64(f"{ROOT_PATH}/"), "range_end": base64(f"{ROOT_PATH}0")}
        permission = {"name": "nodes", "perm": {"permType": "READWRITE", **prefix}}
        self.call("auth/role/grant", permission, token=token)
        self.call("auth/user/grant", {"user": "node", "role": "nodes"}, token=token)
        self._has_users = True


@pytest.fixture
def server(own_service: OwnService) -> Etcd:
    return own_service(GuardedEtcd, tls=True)


def base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def settings_for(server: Etcd, *, root_path: str = ROOT_PATH, **ssl: Any) -> EtcdSettings:
    certificates = server.certificates
    assert certificates is not None
    files = {"tls_ca_cert": str(certificates.authority)}
    return EtcdSettings(
        endpoints=server.endpoint,
        root_path=root_path,
        request_timeout=5_000,
        ssl=EtcdSslSettings(enabled=True, **{**files, **ssl}),
        auth=EtcdAuthSettings(enabled=True, user_name="node", password=PASSWORD),
    )


async def use(store: MetaStore) -> None:
    """Every kind of call, once."""
    lease = await store.grant_lease(60)
    operations = [Put("use/a", b"1"), Put("use/leased", b"", lease)]
    revision = (await store.transact(operations)).revision
    assert (await store.transact([], [Compare("use/a", revision)])).succeeded
    assert (await anext(store.watch("use/a", revision))).value == b"1"
    assert [pair.key for pair in await store.range("use/")] == ["use/a", "use/leased"]
    await store.keep_alive(lease)
    await store.revoke_lease(lease)
    await store.delete("use/a")
    assert (await store.snapshot("use/")).pairs == []


async def test_a_user_needs_no_more_than_the_prefix(server: Etcd) -> None:
    async with open_store(settings_for(server)) as store:
        await use(store)


async def test_a_certificate_is_shown_to_an_etcd_that_wants_one(own_service: OwnService) -> None:
    server = own_service(Etcd, mutual_tls=True)
    certificates = server.certificates
    assert certificates is not None
    nobody = EtcdAuthSettings()
    without = msgspec.structs.replace(settings_for(server), auth=nobody, request_timeout=1_000)
    with pytest.raises(Unavailable, match=f"{server.endpoint} can't be reached"):
        async with open_store(without):
            pass
    settings = settings_for(
        server,
        tls_cert=str(certificates.client_certificate),
        tls_key=str(certificates.client_key),
    )
    async with open_store(msgspec.structs.replace(settings, auth=nobody)) as store:
        await use(store)


async def test_a_user_is_logged_in_again_after_a_restart_of_etcd(server: Etcd) -> None:
    async with open_store(settings_for(server)) as store:
        events = store.watch("seen", await store.put("seen", b"1"))
        assert (await anext(events)).value == b"1"
        server.kill()
        server.start()
        await use(store)
        await store.put("seen", b"2")
        assert (await anext(events)).value == b"2"


async def test_a_prefix_of_others_is_denied(server: Etcd) -> None:
    with pytest.raises(Unavailable, match=r"denies user node access.*etcd\.rootPath"):
        async with open_store(settings_for(server, root_path="theirs")):
            pass


@pytest.mark.parametrize("user", ["node", "nobody"])
async def test_a_wrong_password_is_told_at_once(server: Etcd, user: str) -> None:
    settings = msgspec.structs.replace(
        settings_for(server),
        auth=EtcdAuthSettings(enabled=True, user_name=user, password="wrong"),
    )
    with pytest.raises(Unavailable, match=rf"does not know user {user}.*etcd\.auth\.password"):
        async with open_store(settings):
            pass


async def test_without_a_user_it_is_said_that_one_is_wanted(own_service: OwnService) -> None:
    server = own_service(Etcd, root_password=ROOT_PASSWORD)
    settings = EtcdSettings(endpoints=server.endpoint, request_timeout=5_000)
    with pytest.raises(Unavailable, match=r"set etcd\.auth\.enabled"):
        async with open_store(settings):
            pass


async def test_a_user_whom_etcd_does_not_want_is_refused(own_service: OwnService) -> None:
    server = own_service(Etcd)
    auth = EtcdAuthSettings(enabled=True, user_name="node", password=PASSWORD)
    settings = EtcdSettings(endpoints=server.endpoint, auth=auth)
    with pytest.raises(Unavailable, match=r"no authentication.*etcd\.auth\.enabled"):
        async with open_store(settings):
            pass


async def test_an_authority_that_did_not_sign_is_not_trusted(server: Etcd, tmp_path: Path) -> None:
    stranger = make_certificates(tmp_path / "stranger").authority
    settings = msgspec.structs.replace(
        settings_for(server, tls_ca_cert=str(stranger)), request_timeout=1_000
    )
    with pytest.raises(Unavailable, match=r"(?i)certificate_verify_failed"):
        async with open_store(settings):
            pass
