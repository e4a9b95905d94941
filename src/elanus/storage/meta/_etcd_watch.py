"""Watches of etcd that outlive their streams: nothing lost, nothing twice, whole revisions.

:class:`WatchCursor` knows how far a watch is and decides what each response means; it does no
I/O. :func:`watch_pairs` keeps a stream open for it, and opens another where the last one stopped
whenever one breaks.

How far a watch is can be told only from the events themselves and from progress notes. The
revision in the header of a response is that of the whole store, whose events may still be to
come. A revision is delivered when all of it is here: etcd splits large responses into fragments
(so that none exceeds what we receive), and a stream may break between two of them.

A stream is opened one revision early, because etcd before 3.5.18 says nothing when a deletion
at exactly the revision of the last compaction is gone.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from elanus.errors import ElanusError, InternalError
from elanus.storage.meta import _etcd_protocol as protocol
from elanus.storage.meta._etcd_client import Closed, EtcdClient, TryAgain
from elanus.storage.meta._etcd_errors import permission_denied
from elanus.storage.meta.base import RevisionCompacted

log = structlog.get_logger(__name__)

_REFUSALS = 2
"""Refusals in a row that end a watch. The first may be of a token that has ended."""


@dataclass(frozen=True, slots=True)
class PairEvent:
    """``value`` is None when the key was deleted."""

    key: bytes
    value: bytes | None
    revision: int


class WatchRefused(Exception):
    """etcd does not open the watch; the message says why."""


class WatchCursor:
    """The events of one watch, from ``from_revision`` on, out of the responses of its streams."""

    def __init__(self, from_revision: int) -> None:
        self._next_revision = max(from_revision, 1)
        self._incomplete: list[PairEvent] = []

    def restart(self) -> int:
        """Forget what the last stream left unfinished; the revision to open the next one at."""
        self._incomplete.clear()
        return max(self._next_revision - 1, 1)

    def accept(self, response: Any) -> list[PairEvent]:
        """The events that are complete with this response. Raises RevisionCompacted or
        WatchRefused."""
        if response.canceled:
            if response.compact_revision:
                raise RevisionCompacted(self._next_revision, response.compact_revision)
            raise WatchRefused(response.cancel_reason or "no reason was given")
        if response.created:
            return []
        if not response.events:
            self._next_revision = max(self._next_revision, response.header.revision + 1)
            return []
        complete: list[PairEvent] = []
        for event in response.events:
            revision = event.kv.mod_revision
            if revision < self._next_revision:
                continue
            if self._incomplete and revision > self._incomplete[-1].revision:
                complete += self._incomplete
                self._incomplete.clear()
            value = None if event.type == event.DELETE else event.kv.value
            self._incomplete.append(PairEvent(event.kv.key, value, revision))
        if not response.fragment:
            complete += self._incomplete
            self._incomplete.clear()
        if complete:
            self._next_revision = complete[-1].revision + 1
        return complete


async def watch_pairs(
    client: EtcdClient, begin: bytes, end: bytes, from_revision: int
) -> AsyncIterator[PairEvent]:
    """Changes of keys in [``begin``, ``end``) until the client is closed. Raises
    RevisionCompacted, or Unavailable if etcd refuses us."""
    cursor = WatchCursor(from_revision)
    failures = refusals = 0
    while not client.closed:
        try:
            async with await client.open_stream(protocol.WATCH) as stream:
                await stream.send(_watch_request(begin, end, cursor.restart()))
                response = await stream.receive(client.timeout_s)
                while True:
                    try:
                        events = cursor.accept(response)
                    except WatchRefused as refusal:
                        stream.forget_token()
                        refusals += 1
                        if refusals == _REFUSALS:
                            raise _error_of(client, refusal) from refusal
                        raise TryAgain(str(refusal)) from refusal
                    if failures:
                        log.info("watch of etcd goes on", attempts=failures)
                    failures = refusals = 0
                    for event in events:
                        yield event
                    response = await stream.receive()
        except TryAgain as failure:
            if not failures:
                log.warning("watch of etcd is interrupted", reason=str(failure))
            failures += 1
            with suppress(Closed):
                await client.pause(failures)
        except Closed:
            return


def _error_of(client: EtcdClient, refusal: WatchRefused) -> ElanusError:
    if "permission denied" in str(refusal):
        return permission_denied(client.where, client.user)
    return InternalError(f"{client.where} refuses a watch: {refusal}")


def _watch_request(begin: bytes, end: bytes, start_revision: int) -> Any:
    return protocol.WatchRequest(
        create_request=protocol.WatchCreateRequest(
            key=begin,
            range_end=end,
            start_revision=start_revision,
            progress_notify=True,
            fragment=True,
        )
    )
