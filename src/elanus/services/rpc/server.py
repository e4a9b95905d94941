"""Offers roles to other processes: the other end of :mod:`elanus.services.rpc.client`.

The handlers stand behind the transport's seam, bytes in and bytes out. An error of the tree is an
answer; anything else is a defect, logged here and told as an InternalError.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog

from elanus.errors import ElanusError, InternalError, NotServed, Unavailable
from elanus.runtime.calls import Calls
from elanus.services.rpc.client import FAILED, SUCCEEDED
from elanus.services.rpc.codec import BARE, BATCHES, decode, encode
from elanus.services.rpc.failures import failure_of
from elanus.services.rpc.methods import Method, methods_of
from elanus.transport.base import GrpcError, GrpcStatus

log = structlog.get_logger(__name__)

_Handler = Callable[[bytes, bool], Awaitable[bytes]]
"""Of a request, and whether the answer may have bare batches."""


class RpcServices:
    """Add roles, then hand ``handle`` to a transport server. ``calls``: where they are counted."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self._handlers: dict[str, _Handler] = {}

    def add(
        self,
        interface: type,
        implementation: Any,
        guard: Callable[[], None] | None = None,
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Serve the methods of ``interface`` by those of ``implementation``.

        ``guard`` is called before and after each call; if it raises, the caller gets that for an
        answer: what was computed may be about a state that others have left behind. ``confirm``
        is awaited before each call. Before the call their Unavailable becomes NotServed.
        """
        for name, method in methods_of(interface).items():
            function = getattr(implementation, name)
            self._handlers[method.path] = _handler(method, function, guard, confirm)

    async def handle(
        self, method: str, metadata: Mapping[str, str], body: bytes, deadline_s: float | None
    ) -> bytes:
        handler = self._handlers.get(method)
        if handler is None:
            raise GrpcError(GrpcStatus.UNIMPLEMENTED, f"{method} is not served by this process")
        self._calls.in_flight += 1
        try:
            return await handler(body, metadata.get(BATCHES) == BARE)
        finally:
            self._calls.in_flight -= 1


def _handler(
    method: Method,
    function: Callable[..., Awaitable[Any]],
    guard: Callable[[], None] | None,
    confirm: Callable[[], Awaitable[None]] | None,
) -> _Handler:
    is_guarded = guard is not None or confirm is not None

    async def handle(body: bytes, bare: bool) -> bytes:
        try:
            request = decode(body, method.request)
            if is_guarded:
                await _admit(guard, confirm)
            positional, keywords = method.arguments(request)
            answer = await function(*positional, **keywords)
            if guard is not None:
                guard()
            return SUCCEEDED + encode(answer, bare=bare)
        except ElanusError as error:
            return FAILED + encode(failure_of(error))
        except msgspec.DecodeError as error:
            failure = InternalError(f"a request to {method.path} can't be read: {error}")
            return FAILED + encode(failure_of(failure))
        except Exception as error:
            log.error("call failed", method=method.path, exc_info=error)
            failure = InternalError(f"{method.path}: {type(error).__name__}: {error}")
            return FAILED + encode(failure_of(failure))

    return handle


async def _admit(
    guard: Callable[[], None] | None, confirm: Callable[[], Awaitable[None]] | None
) -> None:
    try:
        if guard is not None:
            guard()
        if confirm is not None:
            await confirm()
    except Unavailable as error:
        raise NotServed(error.message) from error
