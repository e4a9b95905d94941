"""Calls a role in another process as if it were here.

Each call has a time limit; a caller that is cancelled cancels the call. Whatever keeps a call from
an answer (the connection breaks, the time is over, the peer was given up) is Unavailable, and then
it is not known whether the call took effect. Without a connection nothing is sent: that is
NotServed. Nothing is repeated here: callers know what may be.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import grpc
import msgspec

from elanus.errors import DeadlineExceeded, InternalError, NotServed, Unavailable
from elanus.services.rpc.codec import decode, encode
from elanus.services.rpc.failures import Failure, error_of
from elanus.services.rpc.methods import Method, methods_of

S = TypeVar("S")

DEFAULT_TIMEOUT_S = 30.0
CONNECT_BACKOFF_MS = (50, 1_000)
"""A lost peer is sought after this, and at most this, time."""

CONNECT_TIMEOUT_S = 3.0
KEEPALIVE_MS = 10_000
MAX_MESSAGE_BYTES = 512 << 20
_HOPELESS = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class Peer:
    """A connection to one process, used by all stubs of its roles. Connects when it is used."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self.address = address
        options = [
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.initial_reconnect_backoff_ms", CONNECT_BACKOFF_MS[0]),
            ("grpc.min_reconnect_backoff_ms", CONNECT_BACKOFF_MS[0]),
            ("grpc.max_reconnect_backoff_ms", CONNECT_BACKOFF_MS[1]),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options)
        self._calls: dict[str, Any] = {}
        self._closed = asyncio.Event()

    async def call(self, path: str, body: bytes, timeout_s: float) -> bytes:
        """Raises Unavailable, NotServed, DeadlineExceeded or InternalError."""
        if self._closed.is_set():
            raise NotServed(f"{self.address} belongs to nobody any more")
        await self._connect()
        call = self._calls.get(path)
        if call is None:
            call = self._calls[path] = self._channel.unary_unary(path)
        try:
            return cast(bytes, await call(body, timeout=timeout_s))
        except grpc.aio.AioRpcError as error:
            raise self._translated(error, path) from error
        except asyncio.CancelledError:
            # The end of the channel cancels its calls, which is no wish of their callers.
            task = asyncio.current_task()
            if not self._closed.is_set() or task is None or task.cancelling():
                raise
            method = path.rpartition("/")[2]
            raise Unavailable(f"{self.address} was given up during {method}") from None

    async def _connect(self) -> None:
        """Raises NotServed if there is no connection soon."""
        state = self._channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                while state is not grpc.ChannelConnectivity.READY:
                    if state in _HOPELESS or self._closed.is_set():
                        raise NotServed(f"can't connect to {self.address}")
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise NotServed(f"no connection to {self.address}") from None

    def _translated(self, error: grpc.aio.AioRpcError, path: str) -> Exception:
        what = f"{path.rpartition('/')[2]} at {self.address}: {error.details()}"
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return DeadlineExceeded(f"no answer in time from {what}")
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
                return Unavailable(f"can't reach {what}")
            case code:
                return InternalError(f"{what} ({code.name})")

    async def close(self) -> None:
        self._closed.set()
        await self._channel.close()


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

        async def call(*arguments: Any, **keywords: Any) -> Any:
            return await self._call(method, arguments, keywords)

        setattr(self, name, call)
        return call

    async def _call(
        self, method: Method, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
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
