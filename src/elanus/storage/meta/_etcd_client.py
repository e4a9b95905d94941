"""Calls of etcd that live through a restart, a dead member and a change of leader.

One member is used until it fails, then the next. A call has a deadline; until then it is tried
again, with growing pauses, whenever that can't do harm: always if it is *repeatable*, else only
if it surely was not done. So a call that is not repeatable is sent on a connection that stands:
where there is none, a read makes one first. When the connection breaks after that, the outcome is
unknown, because a member may propose a change to the others, die, and have it done later.

Users are logged in when a call needs a token and when etcd no longer knows the one we have (it
forgets them when it restarts).
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from elanus.config.storage import EtcdSettings
from elanus.errors import Unavailable
from elanus.runtime.world import World
from elanus.storage.meta import _etcd_protocol as protocol
from elanus.storage.meta._etcd_errors import (
    OutcomeUnknown,
    Verdict,
    details_of,
    translate,
    verdict_on,
)
from elanus.storage.meta._etcd_members import Member, open_members
from elanus.storage.meta._etcd_protocol import Method

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 1.0
_MAX_DOUBLINGS = 10
_ATTEMPTS_IN_TIMEOUT = 3
"""A member that hangs takes no more than this part of the time of a repeatable call."""
_REQUIRE_LEADER = ("hasleader", "true")
"""Asks a member to end a stream when it loses the others, so that we turn to one that has them."""


class TryAgain(Exception):
    """An attempt failed and did nothing, or nothing that a repetition would do twice."""


class Closed(Exception):
    """The client was closed meanwhile."""


class EtcdClient:
    """Open with :meth:`open`. ``probe_key`` is a key that we may read."""

    def __init__(
        self, world: World, settings: EtcdSettings, members: list[Member], probe_key: bytes
    ) -> None:
        self._world = world
        self.timeout_s = settings.request_timeout / 1_000
        self._auth = settings.auth
        self._members = members
        self._current = 0
        self._token: str | None = None
        self._logging_in = asyncio.Lock()
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._probe = protocol.RangeRequest(key=probe_key, count_only=True)
        self.user = self._auth.user_name if self._auth.enabled else "(none)"
        self.where = f"etcd at {', '.join(member.address for member in members)}"

    @classmethod
    async def open(cls, world: World, settings: EtcdSettings, probe_key: bytes) -> "EtcdClient":
        """Raises InvalidParameter for settings that can't be used; connects later."""
        return cls(world, settings, await open_members(world, settings), probe_key)

    @property
    def closed(self) -> bool:
        return self._closed.done()

    async def close(self) -> None:
        if not self.closed:
            self._closed.set_result(None)
            for member in self._members:
                await member.close()

    async def read_revision(self) -> int:
        """etcd's newest revision."""
        response = await self.call(protocol.RANGE, self._probe)
        return int(response.header.revision)

    def deadline_s(self) -> float:
        """When a call that begins now must have ended, on the monotonic clock."""
        return self._world.clock.monotonic_s() + self.timeout_s

    async def call(
        self,
        method: Method,
        request: Any,
        *,
        repeatable: bool = True,
        deadline_s: float | None = None,
    ) -> Any:
        """The response. Raises OutcomeUnknown if a call that is not repeatable may have been
        done, Unavailable if etcd can't be reached in time, or what etcd refuses it for."""
        deadline_s = self.deadline_s() if deadline_s is None else deadline_s
        attempt = 0
        while True:
            try:
                return await self._attempt(method, request, repeatable, deadline_s)
            except TryAgain as failure:
                reason = failure
            except asyncio.CancelledError:
                # Closing a channel cancels its calls, but not those who wait for them.
                if self.closed and not _is_being_cancelled():
                    raise self._closed_error() from None
                raise
            pause_s = self.pause_s(attempt)
            attempt += 1
            if self._world.clock.monotonic_s() + pause_s >= deadline_s:
                raise Unavailable(
                    f"{self.where} can't be reached within {self.timeout_s:g} s: {reason}"
                ) from reason
            await self._world.clock.sleep(pause_s)

    async def _attempt(
        self, method: Method, request: Any, repeatable: bool, deadline_s: float
    ) -> Any:
        if self.closed:
            raise self._closed_error()
        member = self._members[self._current]
        metadata = await self.log_in(member, self._share_s(deadline_s))
        if repeatable:
            limit_s = self._share_s(deadline_s)
        else:
            if not member.is_connected():
                share_s = self._share_s(deadline_s)
                await self._send(member, protocol.RANGE, self._probe, metadata, share_s)
            limit_s = deadline_s - self._world.clock.monotonic_s()
        return await self._send(member, method, request, metadata, limit_s, repeatable)

    def _share_s(self, deadline_s: float) -> float:
        remaining_s = deadline_s - self._world.clock.monotonic_s()
        return min(remaining_s, self.timeout_s / _ATTEMPTS_IN_TIMEOUT)

    async def _send(
        self,
        member: Member,
        method: Method,
        request: Any,
        metadata: Metadata,
        limit_s: float,
        repeatable: bool = True,
    ) -> Any:
        try:
            return await member.unary(method)(request, metadata=metadata, timeout=limit_s)
        except grpc.aio.AioRpcError as error:
            raise self.judge(member, metadata, error, repeatable) from error

    def judge(
        self,
        member: Member,
        metadata: Metadata,
        error: grpc.aio.AioRpcError,
        repeatable: bool = True,
    ) -> Exception:
        """What to raise for a failed call of a member; the next attempt goes elsewhere."""
        verdict = verdict_on(error)
        if verdict is Verdict.REFUSED:
            return translate(error, self.where, self.user)
        if verdict is Verdict.TOKEN_ENDED:
            self.forget_token(metadata)
            return TryAgain(details_of(error))
        self.turn_from(member)
        if verdict is Verdict.UNKNOWN and not repeatable:
            return OutcomeUnknown(
                f"{self.where} did not answer, it is not known whether a change took effect: "
                f"{details_of(error)}"
            )
        return TryAgain(details_of(error))

    def turn_from(self, member: Member) -> None:
        """Use the next member, unless that is done already."""
        if member is self._members[self._current]:
            self._current = (self._current + 1) % len(self._members)

    async def log_in(self, member: Member, limit_s: float) -> Metadata:
        """What to send along with a call: the token, if the settings name a user."""
        if not self._auth.enabled:
            return ()
        if self._token is None:
            try:
                async with asyncio.timeout(limit_s), self._logging_in:
                    if self._token is None:
                        self._token = await self._authenticate(member, limit_s)
            except TimeoutError:
                raise TryAgain("other calls wait for their log-in too") from None
        return (("token", self._token),)

    async def _authenticate(self, member: Member, limit_s: float) -> str:
        request = protocol.AuthenticateRequest(
            name=self._auth.user_name, password=self._auth.password
        )
        response = await self._send(member, protocol.AUTHENTICATE, request, (), limit_s)
        return str(response.token)

    def forget_token(self, metadata: Metadata) -> None:
        """Log in anew, unless another call has done so since ``metadata`` was made."""
        if self._token in dict(metadata).values():
            self._token = None

    async def open_stream(self, method: Method) -> "Stream":
        """Raises TryAgain, Closed, or what etcd refuses us for."""
        if self.closed:
            raise Closed
        member = self._members[self._current]
        metadata = await self.until_closed(self.log_in(member, self.timeout_s))
        return Stream(self, member, metadata, member.stream(method, (*metadata, _REQUIRE_LEADER)))

    async def until_closed(self, waiting: Awaitable[T], limit_s: float | None = None) -> T:
        """What ``waiting`` gives. Raises Closed when the client is closed, TimeoutError after
        ``limit_s``; then nobody waits any more."""
        task = asyncio.ensure_future(waiting)
        try:
            either: set[asyncio.Future[Any]] = {task, self._closed}
            await asyncio.wait(either, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if self.closed:
                raise Closed
            if not task.done():
                raise TimeoutError
            return task.result()
        finally:
            task.cancel()

    async def pause(self, attempt: int) -> None:
        """Wait before another attempt. Raises Closed."""
        await self.until_closed(self._world.clock.sleep(self.pause_s(attempt)))

    def pause_s(self, attempt: int) -> float:
        longest_s = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(attempt, _MAX_DOUBLINGS))
        return longest_s * self._world.random.uniform(0.5, 1.0)

    def _closed_error(self) -> Unavailable:
        return Unavailable(f"the metadata store ({self.where}) is closed")


class Stream:
    """A stream of one member, cancelled at the end of an ``async with``.

    Its methods raise TryAgain when the stream is broken, and Closed."""

    def __init__(self, client: EtcdClient, member: Member, metadata: Metadata, call: Any) -> None:
        self._client = client
        self._member = member
        self._metadata = metadata
        self._call = call

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()

    async def send(self, request: Any) -> None:
        await self._guard(self._call.write(request), self._client.timeout_s)

    async def receive(self, limit_s: float | None = None) -> Any:
        """The next response."""
        response = await self._guard(self._call.read(), limit_s)
        if response is grpc.aio.EOF:
            raise TryAgain("the stream has ended")
        return response

    def forget_token(self) -> None:
        self._client.forget_token(self._metadata)

    async def _guard(self, waiting: Awaitable[T], limit_s: float | None) -> T:
        try:
            return await self._client.until_closed(waiting, limit_s)
        except grpc.aio.AioRpcError as error:
            raise self._client.judge(self._member, self._metadata, error) from error
        except TimeoutError:
            self._client.turn_from(self._member)
            raise TryAgain(f"{self._member.address} does not answer") from None


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
