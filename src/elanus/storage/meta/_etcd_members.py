"""etcd's members as the settings name them: their addresses, certificates and gRPC channels.

Each member has a channel of its own, so that its certificate is checked against its own name and
we decide when to turn to another. gRPC reconnects a channel by itself when it is next used.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from elanus.config.storage import EtcdSettings, EtcdSslSettings
from elanus.errors import InvalidParameter, Unavailable
from elanus.runtime.world import World
from elanus.storage.meta._etcd_protocol import Method

MAX_RESPONSE_BYTES = 16 << 20
"""etcd takes requests of 1.5 MB, so that a few of the largest pairs fit into one message."""
_SCHEMES = ("http://", "https://")
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    # A connection that is dead without a word is noticed while a call or a watch waits on it. A
    # ping that measures bandwidth has a time limit of its own, and no other is sent meanwhile.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A member that comes back is found soon, one that doesn't answer is given up soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Member:
    """One member of etcd, connected when it is first used."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.address = address
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=_OPTIONS)
        self._unary: dict[Method, Any] = {}

    def is_connected(self) -> bool:
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    def unary(self, method: Method) -> Any:
        """The method as a function of a request. A stream that takes one request and gives one
        response looks the same on the wire."""
        if method not in self._unary:
            self._unary[method] = self._channel.unary_unary(
                method.path, _serialize, method.response.FromString
            )
        return self._unary[method]

    def stream(self, method: Method, metadata: Sequence[tuple[str, str]]) -> Any:
        call = self._channel.stream_stream(method.path, _serialize, method.response.FromString)
        return call(metadata=metadata)

    async def close(self) -> None:
        await self._channel.close()


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


async def open_members(world: World, settings: EtcdSettings) -> list[Member]:
    """Members of all endpoints, none connected yet. Raises InvalidParameter or Unavailable."""
    addresses = parse_endpoints(settings.endpoints)
    credentials = None
    if settings.ssl.enabled:
        credentials = await world.executor.run("io", _read_credentials, settings.ssl)
    return [Member(address, credentials) for address in addresses]


def parse_endpoints(endpoints: str) -> list[str]:
    addresses = []
    for part in filter(None, (part.strip() for part in endpoints.split(","))):
        address = part
        for scheme in _SCHEMES:
            address = address.removeprefix(scheme)
        address = address.rstrip("/")
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidParameter("etcd.endpoints", expected="host:port", actual=part)
        addresses.append(address)
    if not addresses:
        raise InvalidParameter("etcd.endpoints", expected="host:port", actual=endpoints)
    return addresses


def _read_credentials(settings: EtcdSslSettings) -> grpc.ChannelCredentials:
    authority = settings.tls_ca_cert or ssl.get_default_verify_paths().cafile
    _check_files(settings)
    return grpc.ssl_channel_credentials(
        root_certificates=Path(authority).read_bytes() if authority else None,
        private_key=Path(settings.tls_key).read_bytes() if settings.tls_key else None,
        certificate_chain=Path(settings.tls_cert).read_bytes() if settings.tls_cert else None,
    )


def _check_files(settings: EtcdSslSettings) -> None:
    """gRPC says nothing of use about files that it can't read, so OpenSSL looks at them first."""
    context = ssl.create_default_context()
    try:
        if settings.tls_ca_cert:
            context.load_verify_locations(cafile=settings.tls_ca_cert)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(
            f"etcd.ssl.tlsCACert {settings.tls_ca_cert} can't be used: {error}"
        ) from error
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise InvalidParameter("etcd.ssl.tlsCert and etcd.ssl.tlsKey belong together")
    try:
        if settings.tls_cert:
            # An encrypted key would make OpenSSL ask on the terminal.
            context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(
            f"etcd.ssl.tlsCert {settings.tls_cert} and etcd.ssl.tlsKey {settings.tls_key} "
            f"can't be used: {error}"
        ) from error
