"""The instant that a read must reach, from the consistency level that was asked for.

Strong sees everything acknowledged before the request, which the owner of a shard knows by itself;
Bounded lags at most by the graceful time;
Session sees at least the client's own last write; Eventually waits for nothing. No read goes
behind the last change of the collection's schema.
"""

import msgspec

from elanus.config.settings import CommonSettings
from elanus.errors import Rejected
from elanus.model.catalog import CollectionInfo
from elanus.model.timestamp import compose
from elanus.model.types import ConsistencyLevel
from elanus.runtime.clock import Clock
from elanus.services.interfaces import TimestampOracle

LEGACY_EVENTUALLY = 1
LEGACY_BOUNDED = 2
_LEGACY = {
    LEGACY_EVENTUALLY: ConsistencyLevel.EVENTUALLY,
    LEGACY_BOUNDED: ConsistencyLevel.BOUNDED,
}


class ReadInstant(msgspec.Struct, frozen=True):
    """``guarantee_ts``: a shard waits until it has seen every write up to this. ``read_ts``: if it
    is not 0, every shard reads at exactly this instant. ``is_issued``: the oracle gave them.
    ``is_strong``: what it doesn't see of writes that have failed will never be there."""

    guarantee_ts: int
    read_ts: int = 0
    is_issued: bool = False
    is_strong: bool = False


class Wish(msgspec.Struct, frozen=True):
    """What a request says about consistency."""

    level: int
    guarantee_ts: int
    use_default: bool

    @classmethod
    def of(cls, request: object) -> "Wish":
        """From a search, hybrid search or query request."""
        return cls(
            request.consistency_level,  # type: ignore[attr-defined]
            request.guarantee_timestamp,  # type: ignore[attr-defined]
            request.use_default_consistency,  # type: ignore[attr-defined]
        )


async def resolve(
    wish: Wish,
    collection: CollectionInfo,
    oracle: TimestampOracle,
    clock: Clock,
    common: CommonSettings,
    *,
    one_instant: bool = False,
    is_iterator: bool = False,
) -> ReadInstant:
    """The instant of one read.

    one_instant: several reads make one answer, so that all must see the same. is_iterator: pages
    that bring the timestamp of their first page are read at exactly that one.
    """
    if is_iterator and wish.guarantee_ts > 0:
        return ReadInstant(wish.guarantee_ts, wish.guarantee_ts)
    if one_instant or is_iterator:
        issued = await oracle.allocate_timestamps()
        now = max(issued, wish.guarantee_ts)
        return ReadInstant(now, now, now == issued)
    level, given = _level(wish, collection)
    if level is ConsistencyLevel.STRONG:
        if len(collection.vchannels) == 1:
            # Its owner has applied all that it acknowledged: whatever it reads now is Strong.
            return ReadInstant(collection.updated_ts, is_strong=True)
        # Several shards answer for one instant only if it is given to them.
        now = await oracle.allocate_timestamps()
        return ReadInstant(now, now, True)
    if level is ConsistencyLevel.BOUNDED:
        given = compose(max(clock.now_ms() - common.graceful_time, 0))
    elif level is ConsistencyLevel.EVENTUALLY:
        given = LEGACY_EVENTUALLY
    return ReadInstant(max(given, collection.updated_ts))


def _level(wish: Wish, collection: CollectionInfo) -> tuple[ConsistencyLevel, int]:
    """The level and, for Session and Customized, the timestamp to reach."""
    if wish.use_default:
        return collection.consistency_level, wish.guarantee_ts
    try:
        level = ConsistencyLevel(wish.level)
    except ValueError as error:
        raise Rejected(f"invalid consistency level: {wish.level}") from error
    if level is ConsistencyLevel.STRONG and wish.guarantee_ts > 0:
        # Clients from before consistency levels say with the timestamp alone what they want.
        return _LEGACY.get(wish.guarantee_ts, ConsistencyLevel.CUSTOMIZED), wish.guarantee_ts
    return level, wish.guarantee_ts
