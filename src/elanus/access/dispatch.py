"""From bytes to a handler and back: the one place that every request passes.

Guarantees: a request that can be answered is answered with a Status and gRPC OK, whatever goes
wrong inside; only a method that does not exist or is not there yet is a gRPC error
(UNIMPLEMENTED). Requests in flight are bounded. Whatever changes something runs to its end even if
its client goes away; reads are cancelled with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import structlog

from elanus.access.context import CallContext, make_context
from elanus.access.proxy import Proxy
from elanus.errors import ElanusError, TooManyRequests
from elanus.transport.base import GrpcError, GrpcStatus
from elanus.wire.protocol import SERVICE, Method, methods, parse
from elanus.wire.status import respond, status_of

log = structlog.get_logger(__name__)

HandlerFunction = Callable[[Proxy, Any, CallContext], Awaitable[Any]]
"""``await handler(proxy, request message, context)`` gives the response message."""

INTERRUPTIBLE = frozenset({"Search", "HybridSearch", "Query"})
"""Reads that are worth stopping when their client is gone; everything else is quick or a write."""


class Observer(Protocol):
    """Told of each request once it is answered; ``stages`` are seconds by stage."""

    def observe(
        self,
        method: str,
        collection: str,
        seconds: float,
        code: int,
        stages: Mapping[str, float],
    ) -> None: ...


class Dispatcher:
    """Serves MilvusService from a table of handlers.

    :meth:`handle` is the transport's handler; :meth:`call` is the same for a request that is a
    message already (the RESTful API).
    """

    def __init__(
        self,
        proxy: Proxy,
        handlers: Mapping[str, HandlerFunction],
        observer: Observer,
        guard: Callable[[], None] | None = None,
    ) -> None:
        """``guard`` is called before and after each request; what it raises is the answer."""
        unknown = sorted(set(handlers) - set(methods()))
        if unknown:
            raise ValueError(f"handlers of methods that {SERVICE} does not have: {unknown}")
        self._proxy = proxy
        self._handlers = dict(handlers)
        self._observer = observer
        self._max_in_flight = proxy.settings.proxy.max_task_num
        self._guard = guard
        self.in_flight = 0

    async def handle(
        self, method: str, metadata: Mapping[str, str], body: bytes, deadline_s: float | None
    ) -> bytes:
        """``method`` is the full name, as ``/milvus.proto.milvus.MilvusService/Search``."""
        service, _, name = method.lstrip("/").rpartition("/")
        if service != SERVICE:
            raise GrpcError(GrpcStatus.UNIMPLEMENTED, f"unknown service {service}")
        known = self._known(name)
        is_search = name == "Search"
        again = self._proxy.known_requests.find(body) if is_search else None
        try:
            request = again.request if again is not None else _parsed(known, body)
        except ElanusError as error:
            self._observer.observe(name, "", 0.0, error.code, {})
            return bytes(respond(known.response, error).SerializeToString())
        context = self._context(name, request, metadata, deadline_s)
        if is_search:
            context.body, context.again = body, again
        response = await self._answer(known, request, context, self._handlers[name])
        return bytes(response.SerializeToString())

    async def call(
        self,
        name: str,
        request: Any,
        metadata: Mapping[str, str],
        deadline_s: float | None = None,
        handler: HandlerFunction | None = None,
    ) -> Any:
        """The response message of method ``name``; failures are in its status. ``handler`` does in
        the place of the method's what a message can't ask for or answer.

        Raises GrpcError UNIMPLEMENTED for a method that is not there.
        """
        known = self._known(name)
        context = self._context(name, request, metadata, deadline_s)
        return await self._answer(known, request, context, handler or self._handlers[name])

    def _context(
        self, name: str, request: Any, metadata: Mapping[str, str], deadline_s: float | None
    ) -> CallContext:
        now_s = self._proxy.world.clock.monotonic_s()
        return make_context(name, request, metadata, now_s=now_s, timeout_s=deadline_s)

    async def _answer(
        self, known: Method, request: Any, context: CallContext, handler: HandlerFunction
    ) -> Any:
        running = self._run(known, request, context, handler)
        if known.name in INTERRUPTIBLE:
            return await running
        task = self._proxy.world.tasks.spawn(known.name, running)
        return await asyncio.shield(task)

    def _known(self, name: str) -> Method:
        known = methods().get(name)
        if known is None:
            raise GrpcError(GrpcStatus.UNIMPLEMENTED, f"unknown method {name} for {SERVICE}")
        if name not in self._handlers:
            raise GrpcError(GrpcStatus.UNIMPLEMENTED, f"Elanus does not implement {name} yet")
        return known

    async def _run(
        self, known: Method, request: Any, context: CallContext, handler: HandlerFunction
    ) -> Any:
        calls = self._proxy.world.calls
        self.in_flight += 1
        calls.in_flight += 1
        try:
            if self.in_flight > self._max_in_flight:
                raise TooManyRequests(
                    f"{self._max_in_flight} requests are in flight already "
                    "(proxy.maxTaskNum): too many concurrent requests, queue is full"
                )
            if self._guard is not None:
                self._guard()
            await self._proxy.limits.admit(known.name, request, context)
            response = await handler(self._proxy, request, context)
            if self._guard is not None:
                self._guard()
        except ElanusError as error:
            response = respond(known.response, error)
        except Exception as error:
            log.error(
                "request failed",
                method=known.name,
                database=context.database,
                collection=context.collection,
                request_id=context.request_id,
                exc_info=error,
            )
            response = respond(known.response, error)
        finally:
            self.in_flight -= 1
            calls.in_flight -= 1
        seconds = self._proxy.world.clock.monotonic_s() - context.started_s
        code = status_of(response).code
        self._observer.observe(known.name, context.collection, seconds, code, context.stages)
        return response


def _parsed(known: Method, body: bytes) -> Any:
    return parse(known.request, body, f"the request of {known.name}")
