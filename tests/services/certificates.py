"""Certificates for servers and clients on loopback, from an authority made for the test.

The client's has no common name: etcd would take it for a user.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificates:
    """PEM files: what to trust, and a certificate with its key for each side."""

    authority: Path
    server_certificate: Path
    server_key: Path
    client_certificate: Path
    client_key: Path

    def client_context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """What a client trusts and, if told so, shows."""
        context = ssl.create_default_context(cafile=self.authority)
        if with_certificate:
            context.load_cert_chain(self.client_certificate, self.client_key)
        return context


def make_certificates(directory: Path) -> Certificates:
    """The certificates of a folder; they are made if it has none, and kept over restarts."""
    files = {
        name: directory / f"{name.replace('_', '-')}.pem" for name in Certificates.__annotations__
    }
    if not directory.exists():
        directory.mkdir(parents=True)
        authority = trustme.CA()
        server = authority.issue_cert(*NAMES)
        client = authority.issue_cert(*NAMES)
        authority.cert_pem.write_to_path(files["authority"])
        server.cert_chain_pems[0].write_to_path(files["server_certificate"])
        server.private_key_pem.write_to_path(files["server_key"])
        client.cert_chain_pems[0].write_to_path(files["client_certificate"])
        client.private_key_pem.write_to_path(files["client_key"])
    return Certificates(**files)
