"""The query vectors of a search: sent along, or those of rows that are named by primary key."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from elanus.access.context import CallContext
from elanus.access.dql import consistency
from elanus.access.dql.fan_out import ReadScope, query_shards
from elanus.access.dql.plans import key_plan
from elanus.access.proxy import Proxy
from elanus.engine.text.bm25 import term_counts
from elanus.engine.text.fields import analyzer_for
from elanus.errors import InvalidParameter, Rejected
from elanus.model.catalog import CollectionInfo
from elanus.model.schema import FieldSchema, arrow_type
from elanus.model.types import DataType
from elanus.model.vectors import vectors_of, widened
from elanus.wire.columns import decode_ids
from elanus.wire.placeholders import PlaceholderType, decode_placeholders, decode_queries


async def request_vectors(
    proxy: Proxy,
    collection: CollectionInfo,
    field: FieldSchema,
    request: Any,
    context: CallContext,
    *,
    analyzer: str = "",
) -> Any:
    """As ``VectorQuery.vectors`` has them. ``analyzer``: of several that the text of a BM25 field
    may be read by. Raises InvalidParameter or Rejected."""
    if request.WhichOneof("search_input") == "ids":
        if field.name in collection.schema.text_of:
            raise InvalidParameter(
                "search by primary keys is not supported for the output field of a BM25 function"
            )
        if collection.schema.by_name[field.name].data_type is DataType.ARRAY_OF_VECTOR:
            raise InvalidParameter(
                "search by primary keys is not supported for vector array (embedding list) fields, "
                f"fieldName: {field.name}"
            )
        keys = decode_ids(request.ids)
        return await _vectors_of_rows(proxy, collection, field, keys, request, context)
    return await sent_vectors(
        proxy, collection, field, request.placeholder_group, analyzer=analyzer
    )


async def sent_vectors(
    proxy: Proxy,
    collection: CollectionInfo,
    field: FieldSchema,
    sent: bytes,
    *,
    analyzer: str = "",
) -> Any:
    """As ``request_vectors``, of a request that has ``sent`` as its placeholder group."""
    text = collection.schema.text_of.get(field.name)
    if text is None:
        return decode_queries(sent, field)
    return await _terms(proxy, text, sent, analyzer)


async def _terms(proxy: Proxy, text: FieldSchema, sent: bytes, analyzer: str) -> Any:
    """The counts of the terms of each query's text."""
    queries = decode_placeholders(sent)
    if queries.type is not PlaceholderType.VARCHAR:
        raise InvalidParameter(
            "please provide varchar/text for BM25 Function based search, "
            f"got {queries.type.milvus_name}"
        )
    texts = queries.texts()

    def count() -> Any:
        return term_counts(texts, [analyzer_for(text, analyzer)] * len(texts))

    return await proxy.world.executor.run("search", count)


async def _vectors_of_rows(
    proxy: Proxy,
    collection: CollectionInfo,
    field: FieldSchema,
    keys: pa.Array,
    request: Any,
    context: CallContext,
) -> Any:
    primary = collection.schema.primary
    if keys.type != arrow_type(primary):
        raise InvalidParameter(
            "the type of the ids must be that of the primary key",
            expected=primary.data_type.milvus_name,
            actual=str(keys.type),
        )
    if pc.count_distinct(keys).as_py() != len(keys):
        raise InvalidParameter("duplicate IDs found in search request")
    instant = await consistency.resolve(
        consistency.Wish.of(request),
        collection,
        proxy.coordinator,
        proxy.world.clock,
        proxy.settings.common,
    )
    scope = ReadScope(
        collection, key_plan(collection, keys), (), instant, (primary.name, field.name)
    )
    rows = (await query_shards(proxy, scope, context)).rows
    positions = pc.index_in(keys, value_set=rows.column(primary.name))
    if positions.null_count:
        missing = keys.filter(positions.is_null()).to_pylist()
        raise Rejected(
            "some of the provided primary key IDs do not exist: missing IDs = "
            f"[{' '.join(map(str, missing))}]"
        )
    vectors = rows.column(field.name).take(positions)
    if vectors.null_count:
        raise Rejected(f"some of the rows have no vector in field {field.name}")
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR:
        return vectors
    found = vectors_of(vectors)
    return found if field.data_type is DataType.BINARY_VECTOR else widened(found)
