"""Searches that ask the same as an earlier one, but for their vectors and their instant.

Applications search with the same words again and again. What those mean holds as long as the
collection's metadata, so it is worked out once. And what came as the same bytes, but for those of
the vectors, isn't even read again.
"""

from typing import Any

import msgspec

from elanus.access.lru import LruCache
from elanus.model.timestamp import physical_ms
from elanus.wire.fields import place_of
from elanus.wire.protocol import milvus

MAX_KEY_BYTES = 4_096
"""Requests that say more (filters of thousands of keys) would not pay for their place."""
MAX_REMEMBERED = 1_024


class Again(msgspec.Struct, frozen=True):
    """A request that says what an earlier one said.

    request: without its vectors; it belongs to all that say the same, so nobody may change it.
    key: its ``key_of``. vectors: what it has in ``placeholder_group``.
    """

    request: Any
    key: bytes
    vectors: bytes

    def whole(self) -> Any:
        """The request as it came."""
        request = milvus.SearchRequest()
        request.CopyFrom(self.request)
        request.placeholder_group = self.vectors
        return request


class KnownRequests:
    """Serialized SearchRequests, by all of their bytes but those of the vectors."""

    def __init__(self) -> None:
        self._places: LruCache[int, tuple[int, int]] = LruCache(MAX_REMEMBERED)
        self._known: LruCache[tuple[int, bytes], tuple[Any, bytes]] = LruCache(MAX_REMEMBERED)

    def find(self, body: bytes) -> Again | None:
        """None: it must be read."""
        place = self._places.get(len(body))
        if place is None:
            return None
        start, end = place
        known = self._known.get((start, body[:start] + body[end:]))
        return None if known is None else Again(*known, body[start:end])

    def remember(self, body: bytes, request: Any, key: bytes) -> None:
        """``request``, which was read from ``body``, has the ``key_of`` that an earlier one had.
        One that names an instant of its own will hardly come again as these bytes."""
        if physical_ms(request.guarantee_timestamp):
            return
        place = place_of(body, milvus.SearchRequest.PLACEHOLDER_GROUP_FIELD_NUMBER)
        if place is None:
            return
        start, end = place
        rest = body[:start] + body[end:]
        if len(rest) > MAX_KEY_BYTES:
            return
        bare = milvus.SearchRequest()
        bare.CopyFrom(request)
        bare.ClearField("placeholder_group")
        self._places.put(len(body), place)
        self._known.put((start, rest), (bare, key))


def key_of(request: Any) -> bytes | None:
    """All that a SearchRequest says but its vectors and the timestamp that it wants to reach. Equal
    keys: equal searches of one state of the metadata. None for requests whose meaning is not to be
    remembered: with templates or a highlighter, or by primary keys."""
    if request.WhichOneof("search_input") != "placeholder_group":
        return None
    if request.expr_template_values or request.HasField("highlighter"):
        return None
    vectors, guarantee_ts = request.placeholder_group, request.guarantee_timestamp
    request.ClearField("placeholder_group")
    request.ClearField("guarantee_timestamp")
    key: bytes = request.SerializeToString()
    request.placeholder_group, request.guarantee_timestamp = vectors, guarantee_ts
    return key if len(key) <= MAX_KEY_BYTES else None
