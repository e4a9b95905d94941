"""Reads of segments some of whose files are not on this node, at least not all at the same time.

They go segment by segment: the files that one needs are pinned (and brought), its thread works,
they may go again. So a read never needs more room than its largest segment does. What the segments
found is merged as the answers of several nodes are, at the read's own snapshot.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.plan import Plan
from elanus.engine.groups import merge_found
from elanus.engine.segment.base import Segment
from elanus.model.reads import Hits, VectorQuery
from elanus.services.messages import SegmentSearch
from elanus.workers.gather import by_source, interleave
from elanus.workers.query.loader import Loaded
from elanus.workers.query.reads import Beside, SearchOf, WithRows
from elanus.workers.query.scheduler import SearchScheduler
from elanus.workers.query.segment_files import Need
from elanus.workers.query.tier import Tier, TieredFile

MAX_SEGMENTS_AT_ONCE = 4
"""Segments of one read whose files are brought, or held, at the same time."""

T = TypeVar("T")

Part = tuple[Loaded, npt.NDArray[np.int64]]
"""A segment and the positions of its rows in an answer."""
Rows = tuple[npt.NDArray[np.int64], pa.RecordBatch]
"""Positions in an answer, and the rows there."""


def filter_fields(plan: Plan | None) -> frozenset[str]:
    """The fields that evaluating the plan reads."""
    if plan is None:
        return frozenset()
    return plan.fields if plan.elements is None else plan.fields.union(plan.elements.fields)


def need_of(query: VectorQuery, plan: Plan | None, output_fields: tuple[str, ...]) -> Need:
    """Of a search. ``output_fields``: of its hits, as far as they are to be read with it."""
    grouping = query.grouping
    taken = output_fields if grouping is None else (*output_fields, grouping.field_name)
    return filter_fields(plan) | {query.field_name}, taken


def files_of(loaded: Iterable[Loaded], need: Need) -> list[TieredFile]:
    return [file for each in loaded for file in each.files.needed(need)]


class ColdReads:
    """See the module."""

    def __init__(self, tier: Tier, scheduler: SearchScheduler) -> None:
        self._tier = tier
        self._scheduler = scheduler

    async def search(
        self, loaded: Sequence[Loaded], request: SegmentSearch, others: Sequence[Segment]
    ) -> tuple[Hits, pa.RecordBatch | None]:
        """The hits in these segments and, after them, in ``others``, which are not cold; and their
        rows, if they are asked for."""
        query, names = request.query, request.output_fields
        need = need_of(query, request.plan, ())

        async def one(each: Loaded) -> Hits:
            async with self._tier.pinned(each.files.needed(need)):
                call = SearchOf([each.segment], request)
                found: Hits = await self._scheduler.search(None, call, query)
                return found

        hits = merge_found(await in_turns(one, not_excluded(loaded, request.plan)), query)
        if others:
            beside = Beside(others, request, WithRows((), ()))
            hits, _ = await self._scheduler.run(beside, hits)
        if not names or not len(hits.sources):
            return hits, None
        sealed = {each.segment.segment_id: each for each in loaded}
        growing = {segment.segment_id: segment for segment in others}
        parts: list[Part] = []
        here: list[Rows] = []
        for source, positions in by_source(hits.sources):
            if source in sealed:
                parts.append((sealed[source], positions))
            else:
                take = growing[source].take
                rows = await self._scheduler.run(take, hits.offsets[positions], names)
                here.append((positions, rows))
        return hits, await self.take(parts, hits.offsets, names, here)

    async def run(
        self,
        loaded: Sequence[Loaded],
        need: Need,
        plan: Plan | None,
        function: Callable[..., T],
        *args: Any,
    ) -> list[T]:
        """``function([segment], *args)`` of each that may have rows which pass the plan."""

        async def one(each: Loaded) -> T:
            async with self._tier.pinned(each.files.needed(need)):
                return await self._scheduler.run(function, [each.segment], *args)

        return await in_turns(one, not_excluded(loaded, plan))

    async def take(
        self,
        parts: Sequence[Part],
        offsets: npt.NDArray[np.int64],
        names: tuple[str, ...],
        others: Sequence[Rows] = (),
    ) -> pa.RecordBatch:
        """As ``take_rows``. ``others``: rows of the answer that are there already."""

        async def one(part: Part) -> Rows:
            each, positions = part
            async with self._tier.pinned(each.files.needed((frozenset(), names))):
                rows = await self._scheduler.run(each.segment.take, offsets[positions], names)
            return positions, rows

        taken = await in_turns(one, parts)
        return await self._scheduler.run(interleave, [*taken, *others], names)


def not_excluded(loaded: Sequence[Loaded], plan: Plan | None) -> Sequence[Loaded]:
    """Those whose files may be of use; one at least, which says what an answer of no rows is."""
    return [each for each in loaded if not each.segment.excludes(plan)] or loaded[:1]


async def in_turns(call: Callable[[Any], Awaitable[T]], each: Sequence[Any]) -> list[T]:
    """What ``call`` gives for each, a few at a time; the first failure ends the others."""
    places = asyncio.Semaphore(MAX_SEGMENTS_AT_ONCE)

    async def in_its_turn(one: Any) -> T:
        async with places:
            return await call(one)

    tasks = [asyncio.ensure_future(in_its_turn(one)) for one in each]
    try:
        return await asyncio.gather(*tasks)
    finally:
        while tasks:  # none is kept here, by a frame that its error holds
            tasks.pop().cancel()
