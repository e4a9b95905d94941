"""Calls a role in another process as if it were here.

Each call has a time limit; a caller that is cancelled cancels the call. Whatever keeps a call from
an answer (the connection breaks, the time is over, the peer was given up) is Unavailable, and then
it is not known whether the call took effect. Without a connection nothing is sent: that is
NotServed. Nothing is repeated here: callers know what may be.
"""

import asyncio
import ssl
from collections.abc import Mapping
from functools import partial
from typing import Any, Generic, TypeVar, cast

import msgspec

from elanus.errors import DeadlineExceeded, InternalError, NotServed, Unavailable
from elanus.services.rpc.codec import BARE, BATCHES, decode, encode
from elanus.services.rpc.failures import Failure, error_of
from elanus.services.rpc.methods import Method, methods_of
from elanus.transport.base import GrpcStatus
from elanus.transport.http2.client import ClientConnection, RpcStatusError

S = TypeVar("S")

DEFAULT_TIMEOUT_S = 30.0
CONNECT_BACKOFF_S = (0.05, 1.0)
"""A peer that can't be reached is sought again after this, and at most this, time."""

CONNECT_TIMEOUT_S = 3.0


class Peer:
    """A connection to one process, used by all stubs of its roles. Connects when it is used; with
    a ``context`` by TLS, and the process must show a certificate for ``server_name``."""

    def __init__(
        self, address: str, context: ssl.SSLContext | None = None, server_name: str = ""
    ) -> None:
        self.address = address
        self._context = context
        self._server_name = server_name
        self._connection: ClientConnection | None = None
        self._connecting: asyncio.Task[ClientConnection] | None = None
        self._failures = 0
        self._next_attempt_s = 0.0
        self._closed = False
        self._in_flight = 0
        self._idle: asyncio.Event | None = None

    async def call(self, path: str, body: bytes, timeout_s: float) -> bytes:
        """Raises Unavailable, NotServed, DeadlineExceeded or InternalError."""
        self._in_flight += 1
        try:
            connection = self._connection
            if connection is None or not connection.is_usable:
                connection = await self._connect()
            try:
                return await connection.call(path, body, timeout_s)
            except TimeoutError:
                raise DeadlineExceeded(f"no answer in time from {self._named(path)}") from None
            except RpcStatusError as error:
                raise self._translated(error, path) from error
            except Unavailable as error:
                raise type(error)(f"{self._named(path)}: {error.message}") from error
        finally:
            self._in_flight -= 1
            if self._idle is not None and not self._in_flight:
                self._idle.set()

    async def _connect(self) -> ClientConnection:
        """Raises NotServed if there is no connection soon."""
        if self._closed:
            raise NotServed(f"{self.address} belongs to nobody any more")
        if self._connecting is None:
            if asyncio.get_running_loop().time() < self._next_attempt_s:
                raise NotServed(f"can't connect to {self.address}")
            self._connecting = asyncio.create_task(self._connect_now())
            self._connecting.add_done_callback(self._connected)
        connecting = self._connecting
        await asyncio.wait([connecting])
        if connecting.cancelled():
            raise NotServed(f"{self.address} belongs to nobody any more")
        error = connecting.exception()
        if isinstance(error, OSError):
            raise NotServed(f"can't connect to {self.address}: {error}") from error
        return connecting.result()

    async def _connect_now(self) -> ClientConnection:
        """Raises OSError, of which TimeoutError is one."""
        host, _, port = self.address.rpartition(":")
        host, context = host.strip("[]"), self._context
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: ClientConnection(
                    self.address, secure=context is not None, metadata={BATCHES: BARE}
                ),
                host,
                int(port),
                ssl=context,
                server_hostname=None if context is None else self._server_name or host,
            )
        return connection

    def _connected(self, connecting: asyncio.Task[ClientConnection]) -> None:
        self._connecting = None
        if not connecting.cancelled() and connecting.exception() is None:
            self._connection = connecting.result()
            self._failures = 0
            return
        first_s, longest_s = CONNECT_BACKOFF_S
        pause_s = min(longest_s, first_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._next_attempt_s = asyncio.get_running_loop().time() + pause_s

    def _named(self, path: str) -> str:
        return f"{path.rpartition('/')[2]} at {self.address}"

    def _translated(self, error: RpcStatusError, path: str) -> Exception:
        what = f"{self._named(path)}: {error.message}"
        match error.status:
            case GrpcStatus.DEADLINE_EXCEEDED:
                return DeadlineExceeded(f"no answer in time from {what}")
            case GrpcStatus.UNAVAILABLE | GrpcStatus.CANCELLED:
                return Unavailable(f"can't reach {what}")
            case GrpcStatus.UNIMPLEMENTED:
                # It runs an older version, as others may not.
                return NotServed(what)
            case code:
                return InternalError(f"{what} (gRPC status {code})")

    async def close_when_idle(self) -> None:
        """Close once no call is under way: others have taken over from this connection."""
        self._idle = asyncio.Event()
        try:
            if self._in_flight:
                await self._idle.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Calls that are under way end with Unavailable."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._connection is not None:
            self._connection.abort(f"{self.address} was given up")


class Stub(Generic[S]):
    """The methods of interface ``S`` at a peer. ``timeouts_s``: by method, others have the default;
    a request with a ``deadline_s`` of its own is bound by that."""

    def __init__(
        self, interface: type[S], peer: Peer, timeouts_s: Mapping[str, float] | None = None
    ) -> None:
        self._methods = methods_of(cast(Any, interface))
        self._peer = peer
        self._timeouts_s = timeouts_s or {}

    def __getattr__(self, name: str) -> Any:
        method = self._methods.get(name)
        if method is None:
            raise AttributeError(f"{name} is no method of the interface")
        call = partial(self._call, method)
        setattr(self, name, call)
        return call

    async def _call(self, method: Method, /, *arguments: Any, **keywords: Any) -> Any:
        timeout_s = self._timeouts_s.get(method.name, DEFAULT_TIMEOUT_S)
        deadline_s = getattr(arguments[0], "deadline_s", None) if arguments else None
        if deadline_s is not None:
            timeout_s = deadline_s
        body = encode(method.bind(arguments, keywords))
        try:
            answer = await self._peer.call(method.path, body, timeout_s)
        except DeadlineExceeded as error:
            if deadline_s is not None:
                raise
            raise Unavailable(error.message) from error
        try:
            if answer[:1] == FAILED:
                raise error_of(decode(memoryview(answer)[1:], Failure))
            return decode(memoryview(answer)[1:], method.answer)
        except msgspec.DecodeError as error:
            raise InternalError(f"the answer to {method.path} can't be read: {error}") from error


SUCCEEDED, FAILED = b"\x00", b"\x01"
"""First byte of an answer: a value follows, or a Failure."""


def stub(interface: type[S], peer: Peer, timeouts_s: Mapping[str, float] | None = None) -> S:
    """An object with the methods of ``interface``, each a call to ``peer``."""
    return cast(S, Stub(interface, peer, timeouts_s))
