"""Pages of a search iterator.

The server keeps no state: a page is a range search strictly beyond the worst score of the page
before, which the client sends back. So that rows of equal score are not torn apart by the end of a
page (the later ones would be lost), a page asks for one hit more and, if that one ties with the
last, leaves the tied ones to the next page. Only ties of more rows than a page has can be lost.
"""

import math
import uuid

import msgspec
import numpy as np

from elanus.access.dql.parameters import IteratorPage
from elanus.engine.reduce import slice_hits
from elanus.model.reads import Hits, VectorQuery
from elanus.model.types import MetricType
from elanus.runtime.world import World
from elanus.services.messages import SearchResponse
from elanus.wire.results import IteratorState

FLOAT32_MAX = float(np.finfo(np.float32).max)


def page_query(query: VectorQuery, page: IteratorPage) -> VectorQuery:
    """The query of a page: one hit more than wanted, from the next float32 after the last bound
    on."""
    query = msgspec.structs.replace(query, top_k=query.top_k + 1)
    if page.last_bound is None:
        return query
    bound = np.float32(page.last_bound)
    if query.metric.larger_is_better:
        edge = float(np.nextafter(bound, np.float32(-np.inf)))
        inner = edge if query.range_filter is None else min(edge, query.range_filter)
        outer = -math.inf if query.radius is None else query.radius
    else:
        edge = float(np.nextafter(bound, np.float32(np.inf)))
        inner = edge if query.range_filter is None else max(edge, query.range_filter)
        outer = math.inf if query.radius is None else query.radius
    return msgspec.structs.replace(query, radius=outer, range_filter=inner)


def cut_page(answer: SearchResponse, size: int) -> SearchResponse:
    """At most ``size`` hits, without those that tie with the first one that doesn't fit."""
    scores = answer.hits.scores
    if len(scores) <= size:
        return answer
    better = int(np.count_nonzero(scores[:size] != scores[size]))
    kept = better or size
    hits = slice_hits(answer.hits, 0, kept)
    return msgspec.structs.replace(answer, hits=hits, rows=answer.rows.slice(0, kept))


def state_after(world: World, page: IteratorPage, hits: Hits, metric: MetricType) -> IteratorState:
    """The state after a page: its worst score, or the old bound if it is empty."""
    token = page.token or str(uuid.UUID(int=world.random.getrandbits(128), version=4))
    if len(hits.scores):
        bound = float(hits.scores[-1])
    elif page.last_bound is not None:
        bound = page.last_bound
    else:
        bound = FLOAT32_MAX if metric.larger_is_better else -FLOAT32_MAX
    return IteratorState(token, bound)
