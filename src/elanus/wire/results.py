"""Answers of searches, queries and writes as Milvus's messages."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.model.reads import Hits
from elanus.model.schema import CollectionSchema, FieldSchema, arrow_type
from elanus.model.timestamptz import UTC_TEXT, TimeOutput
from elanus.model.types import DataType
from elanus.wire.columns import encode_column, encode_ids, ids_message
from elanus.wire.lists import struct_message
from elanus.wire.protocol import milvus, pack, schema

COUNT_FIELD = "count(*)"


class IteratorState(msgspec.Struct, frozen=True):
    """Where a search iterator stands: its token, and the score of the last hit that it has seen."""

    token: str
    last_bound: float


def field_messages(
    collection: CollectionSchema,
    rows: Any,
    field_names: Sequence[str],
    dynamic_keys: Sequence[str] | None = None,
    times: TimeOutput = UTC_TEXT,
) -> list[Any]:
    """FieldData messages of the named columns of ``rows``, those of a struct in one message.

    rows: Arrow record batch or table that has the columns. field_names: the fields of a struct one
    after another. dynamic_keys: keys of ``$meta`` to keep of each row if it is among the columns;
    None keeps the whole objects. times: how timestamps are shown.
    """
    fields = [collection.by_name[name] for name in field_names]
    ids = {struct.name: struct.field_id for struct in collection.structs}
    messages = []
    for struct, parts in groupby(fields, lambda field: field.struct):
        columns = [
            encode_column(
                field,
                rows.column(field.name),
                dynamic_keys=dynamic_keys if field.is_dynamic else None,
                times=times,
            )
            for field in parts
        ]
        messages += [struct_message(struct, ids[struct], columns)] if struct else columns
    return messages


def search_results(
    collection: CollectionSchema,
    hits: Hits,
    rows: Any,
    field_names: Sequence[str] = (),
    *,
    collection_name: str = "",
    output_fields: Sequence[str] | None = None,
    dynamic_keys: Sequence[str] | None = None,
    times: TimeOutput = UTC_TEXT,
    session_ts: int = 0,
    iterator: IteratorState | None = None,
    group_field: FieldSchema | None = None,
    searched_rows: int = 0,
    highlights: Sequence[Any] = (),
) -> Any:
    """A SearchResults message.

    rows: a row for each hit, in the hits' order (may be None without ``field_names``).
    field_names: the columns to send. output_fields: what the user asked for, echoed; by default
    the columns. searched_rows: how many rows were looked at, if known. highlights: HighlightResult
    messages.
    group_field: the field whose values the hits are grouped by, if they are.
    """
    counts = hits.counts.tolist()
    answer = milvus.SearchResults(
        collection_name=collection_name or collection.name, session_ts=session_ts
    )
    # Filled where it is: a message that is put into another one is copied.
    data = answer.results
    data.num_queries = len(counts)
    data.top_k = max(counts, default=0)
    data.all_search_count = searched_rows
    data.primary_field_name = collection.primary.name
    data.topks.extend(counts)
    data.scores.extend(pack(hits.scores, "<f4"))
    encode_ids(data.ids, hits.keys)
    shown = field_names if output_fields is None else output_fields
    if shown:
        data.output_fields.extend(shown)
    if field_names:
        data.fields_data.extend(field_messages(collection, rows, field_names, dynamic_keys, times))
    if highlights:
        data.highlight_results.extend(highlights)
    if hits.elements is not None:
        data.element_indices.data.extend(hits.elements.tolist())
    if group_field is not None:
        groups = hits.groups
        if groups is None:
            groups = pa.array([], arrow_type(group_field))
        data.group_by_field_value.CopyFrom(encode_column(group_field, groups, times=times))
    if iterator is not None:
        data.search_iterator_v2_results.token = iterator.token
        data.search_iterator_v2_results.last_bound = iterator.last_bound
    return answer


def query_results(
    collection: CollectionSchema,
    rows: Any,
    field_names: Sequence[str],
    *,
    collection_name: str = "",
    output_fields: Sequence[str] | None = None,
    dynamic_keys: Sequence[str] | None = None,
    times: TimeOutput = UTC_TEXT,
    session_ts: int = 0,
    elements: Sequence[npt.NDArray[np.int64]] | None = None,
) -> Any:
    """A QueryResults message; the arguments are as for :func:`search_results`. elements: the places
    of the elements that are meant in each row; None: the rows themselves."""
    return milvus.QueryResults(
        fields_data=field_messages(collection, rows, field_names, dynamic_keys, times),
        collection_name=collection_name or collection.name,
        output_fields=field_names if output_fields is None else output_fields,
        session_ts=session_ts,
        primary_field_name=collection.primary.name,
        element_indices=[
            milvus.ElementIndices(indices=schema.LongArray(data=places.tolist()))
            for places in elements or ()
        ],
    )


def count_results(
    collection: CollectionSchema, count: int, *, collection_name: str = "", session_ts: int = 0
) -> Any:
    """The QueryResults message of a query for ``count(*)``."""
    column = schema.FieldData(
        type=int(DataType.INT64),
        field_name=COUNT_FIELD,
        scalars=schema.ScalarField(long_data=schema.LongArray(data=[count])),
    )
    return milvus.QueryResults(
        fields_data=[column],
        collection_name=collection_name or collection.name,
        output_fields=[COUNT_FIELD],
        session_ts=session_ts,
        primary_field_name=collection.primary.name,
    )


def mutation_result(
    keys: Any = None,
    *,
    timestamp: int,
    inserted: int = 0,
    deleted: int = 0,
    upserted: int = 0,
) -> Any:
    """The MutationResult message of a write that went well.

    keys: primary keys of the written rows in the order of the request (int64 NumPy or Arrow array,
    or Arrow string array); None for a delete.
    """
    result = milvus.MutationResult(
        IDs=ids_message(np.empty(0, np.int64) if keys is None else keys),
        acknowledged=True,
        insert_cnt=inserted,
        delete_cnt=deleted,
        upsert_cnt=upserted,
        timestamp=timestamp,
    )
    if keys is not None:
        result.succ_index.extend(range(len(keys)))
    return result
