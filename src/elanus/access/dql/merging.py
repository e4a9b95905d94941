"""Answers to one search, each with the rows of its hits, become one."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from elanus.engine.groups import merge_found
from elanus.engine.reduce import slice_hits
from elanus.model.reads import Hits, VectorQuery
from elanus.services.messages import SearchResponse


def merge_searches(answers: Sequence[SearchResponse], query: VectorQuery) -> SearchResponse:
    """The best hits of all answers. The stages are the first one's."""
    if len(answers) == 1:
        return answers[0]
    placed, start = [], 0
    for answer in answers:
        placed.append(_placed(answer.hits, start))
        start += len(answer.hits.scores)
    hits = merge_found(placed, query)
    rows = pa.concat_batches([answer.rows for answer in answers])
    read_ts = max(answer.read_ts for answer in answers)
    return SearchResponse(hits, _at(rows, hits), read_ts, answers[0].stages)


def without_first(answer: SearchResponse, offset: int) -> SearchResponse:
    """Without the first ``offset`` hits of every query."""
    hits = slice_hits(_placed(answer.hits, 0), offset)
    return SearchResponse(hits, _at(answer.rows, hits), answer.read_ts, answer.stages)


def _placed(hits: Hits, start: int) -> Hits:
    """The hits' places in segments are of no use any more: ``offsets`` becomes their places among
    the rows that came with them, from ``start`` on."""
    return replace(hits, offsets=np.arange(start, start + len(hits.scores)))


def _at(rows: pa.RecordBatch, hits: Hits) -> pa.RecordBatch:
    return rows.take(pa.array(hits.offsets)) if rows.num_columns else rows
