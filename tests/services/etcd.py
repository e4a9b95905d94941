"""etcd: one member, optionally with TLS, client certificates and a root password."""

import ssl
from pathlib import Path
from typing import Any, ClassVar

import httpx

from tests.services.base import REQUEST_TIMEOUT_S, Service, ServiceError, answers
from tests.services.certificates import Certificates, make_certificates
from tests.services.packages import GoProgram


class Etcd(Service):
    """``tls``: https only. ``mutual_tls``: clients must show a certificate too.

    ``root_password``: authentication is on, as user root with this password.
    """

    name = "etcd"
    package = GoProgram("etcd", "v3.6.16", path="go.etcd.io/etcd/server/v3")
    port_names: ClassVar = ("client", "peer")

    def __init__(
        self,
        directory: Path,
        *,
        tls: bool = False,
        mutual_tls: bool = False,
        root_password: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(directory, **options)
        self.root_password = root_password
        self.mutual_tls = mutual_tls
        self.certificates: Certificates | None = None
        if tls or mutual_tls:
            self.certificates = make_certificates(self.directory / "certificates")

    @property
    def endpoint(self) -> str:
        """``host:port``, as etcd's clients and etcd.endpoints take it."""
        return f"127.0.0.1:{self.ports['client']}"

    @property
    def address(self) -> str:
        return f"{'https' if self.certificates else 'http'}://{self.endpoint}"

    @property
    def _context(self) -> ssl.SSLContext | None:
        if self.certificates is None:
            return None
        return self.certificates.client_context(with_certificate=self.mutual_tls)

    def command(self) -> list[str]:
        peer = f"http://127.0.0.1:{self.ports['peer']}"
        options = {
            "data-dir": self.data_directory,
            "listen-client-urls": self.address,
            "advertise-client-urls": self.address,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        if self.certificates is not None:
            options["cert-file"] = self.certificates.server_certificate
            options["key-file"] = self.certificates.server_key
        if self.certificates is not None and self.mutual_tls:
            options["trusted-ca-file"] = self.certificates.authority
        words = [f"--{name}={value}" for name, value in options.items()]
        if self.mutual_tls:
            words.append("--client-cert-auth")
        return [str(self.package.program), *words]

    def is_ready(self) -> bool:
        return answers(f"{self.address}/health", self._context)

    def initialize(self) -> None:
        if self.root_password is None or self._authenticates():
            return
        self.call("auth/user/add", self._credentials)
        self.call("auth/user/grant", {"user": "root", "role": "root"})
        self.call("auth/enable", {})

    def call(self, method: str, body: dict[str, Any], *, token: str = "") -> dict[str, Any]:
        """Call a method of the JSON gateway; keys and values in it are base64."""
        answer = self._post(method, body, token)
        if not answer.is_success:
            raise ServiceError(f"etcd refused {method}: {answer.status_code} {answer.text}")
        return dict(answer.json())

    def token(self) -> str:
        """A token of user root."""
        return str(self.call("auth/authenticate", self._credentials)["token"])

    @property
    def _credentials(self) -> dict[str, Any]:
        return {"name": "root", "password": self.root_password}

    def _authenticates(self) -> bool:
        return self._post("auth/authenticate", self._credentials, "").is_success

    def _post(self, method: str, body: dict[str, Any], token: str) -> httpx.Response:
        trust = True if self._context is None else self._context
        headers = {"Authorization": token} if token else {}
        with httpx.Client(verify=trust, timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
            return client.post(f"{self.address}/v3/{method}", json=body, headers=headers)
