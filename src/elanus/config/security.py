"""Settings of TLS: of the public port, and between the roles of a cluster."""

from typing import Annotated

from msgspec import Meta, field

from elanus.config.section import Section


class SecuritySettings(Section, frozen=True, kw_only=True):
    tls_mode: Annotated[
        int,
        Meta(
            ge=0,
            le=2,
            description="TLS of the public port: 0 = none, 1 = the server shows a certificate, 2 = "
            "clients must show one too.",
        ),
    ] = 0
    internal_tls_enabled: Annotated[
        bool,
        Meta(
            description="The roles of a cluster speak TLS with each other, and each must show a "
            "certificate; the same for all processes."
        ),
    ] = field(default=False, name="internaltlsEnabled")


class TlsSettings(Section, frozen=True, kw_only=True):
    server_pem_path: Annotated[
        str, Meta(description="Certificate chain of the public port, a PEM file.")
    ] = "configs/cert/server.pem"
    server_key_path: Annotated[str, Meta(description="Its key, a PEM file, not encrypted.")] = (
        "configs/cert/server.key"
    )
    ca_pem_path: Annotated[
        str,
        Meta(description="Authority of clients' certificates, a PEM file; used with tlsMode 2."),
    ] = "configs/cert/ca.pem"


class InternalTlsSettings(Section, frozen=True, kw_only=True):
    server_pem_path: Annotated[
        str,
        Meta(
            description="Certificate chain of this process, a PEM file: shown to roles that call "
            "it, and to those that it calls."
        ),
    ] = "configs/cert/server.pem"
    server_key_path: Annotated[str, Meta(description="Its key, a PEM file, not encrypted.")] = (
        "configs/cert/server.key"
    )
    ca_pem_path: Annotated[
        str, Meta(description="Authority that signs the certificates of all roles, a PEM file.")
    ] = "configs/cert/ca.pem"
    sni: Annotated[
        str, Meta(min_length=1, description="Name that every role's certificate must be for.")
    ] = "localhost"
