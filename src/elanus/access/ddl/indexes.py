"""Index definitions, and how far building them is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from elanus.access.context import CallContext
from elanus.access.ddl import names
from elanus.access.ddl.index_parameters import (
    AUTOINDEX,
    ResolvedIndex,
    check_alteration,
    resolve_index,
)
from elanus.access.ddl.lookup import find_collection
from elanus.access.proxy import Proxy
from elanus.errors import (
    IndexNotFound,
    InvalidParameter,
    Rejected,
)
from elanus.model.catalog import CollectionInfo, IndexInfo, SegmentInfo
from elanus.model.schema import DYNAMIC_FIELD, FieldSchema
from elanus.model.types import IndexState, SegmentLevel
from elanus.wire.protocol import milvus
from elanus.wire.schema import dict_to_pairs, pairs_to_dict
from elanus.wire.status import success


async def create_index(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    given = _merged_params(request.extra_params)
    field = _indexed_field(info, request.field_name, given)
    if field.is_dynamic and field.name != request.field_name:
        given.setdefault("json_path", request.field_name)
    resolved = resolve_index(field, given)
    name = request.index_name.strip()
    if name:
        name = names.index_name(name, proxy.settings.proxy.max_name_length)
    await proxy.coordinator.create_index(
        IndexInfo(
            index_id=0,
            collection_id=info.collection_id,
            field_name=field.name,
            name=name,
            index_type=resolved.index_type,
            metric_type=resolved.metric,
            created_ts=0,
            params=resolved.params,
            user_params=_shown_params(pairs_to_dict(request.extra_params), resolved),
        )
    )
    return success()


def _merged_params(pairs: Iterable[Any]) -> dict[str, str]:
    """The request's parameters with those in the JSON object ``params``, all as text."""
    merged: dict[str, str] = {}

    def add(key: str, value: str) -> None:
        if key in merged:
            raise InvalidParameter(f"duplicated index param (key={key}) (value={value}) found")
        merged[key] = value

    for pair in pairs:
        if pair.key != "params":
            add(pair.key, pair.value)
            continue
        try:
            nested = orjson.loads(pair.value)
        except orjson.JSONDecodeError as error:
            raise InvalidParameter(f"params is not valid JSON: {pair.value}: {error}") from error
        if not isinstance(nested, dict):
            raise InvalidParameter(f"params is not a JSON object: {pair.value}")
        for key, value in nested.items():
            add(key, value if isinstance(value, str) else _as_text(value))
    return merged


def _as_text(value: object) -> str:
    if isinstance(value, bool | int | float):
        return str(value)
    return orjson.dumps(value).decode()


def _indexed_field(info: CollectionInfo, name: str, given: dict[str, str]) -> FieldSchema:
    """The field of this name; a key of the dynamic field stands for ``$meta``."""
    field = info.schema.by_name.get(name)
    if field is not None:
        return field
    dynamic = info.schema.by_name.get(DYNAMIC_FIELD)
    if dynamic is not None and name and "json_cast_type" in given:
        return dynamic
    raise Rejected(f"cannot create index on non-exist field: {name}, collection = {info.name}")


def _shown_params(given: dict[str, str], resolved: ResolvedIndex) -> dict[str, str]:
    """What DescribeIndex tells: the user's words, with the type and the metric always there."""
    shown = {"index_type": AUTOINDEX if resolved.is_auto else resolved.index_type}
    if resolved.metric is not None:
        shown["metric_type"] = resolved.metric.value
    if "json_path" in resolved.params:
        shown["json_path"] = resolved.params["json_path"]
    shown.update((key, value) for key, value in given.items() if key not in shown)
    return shown


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """Rows of flushed segments: all of them, those whose index is done."""

    total_rows: int
    indexed_rows: int
    state: IndexState
    fail_reason: str = ""

    @property
    def pending_rows(self) -> int:
        return self.total_rows - self.indexed_rows


def index_progress(index: IndexInfo, segments: Iterable[SegmentInfo]) -> IndexProgress:
    """How far ``index`` is on these segments. With nothing left to do it is FINISHED."""
    total = indexed = 0
    failure = ""
    for segment in segments:
        if segment.level is SegmentLevel.L0:
            continue
        total += segment.row_count
        part = next((part for part in segment.indexes if part.index_id == index.index_id), None)
        if part and part.state is IndexState.FINISHED:
            indexed += segment.row_count
        elif part and part.state is IndexState.FAILED:
            failure = failure or part.fail_reason or f"segment {segment.segment_id} failed"
    if failure:
        state = IndexState.FAILED
    else:
        state = IndexState.FINISHED if indexed == total else IndexState.IN_PROGRESS
    return IndexProgress(total, indexed, state, failure)


async def _wanted(proxy: Proxy, info: CollectionInfo, request: Any) -> list[IndexInfo]:
    """The indexes that a request names by index or field. Raises IndexNotFound for none."""
    indexes = await proxy.coordinator.list_indexes(info.collection_id)
    index_name = request.index_name
    if index_name:
        found = [index for index in indexes if index.name == index_name]
        if not found:
            raise IndexNotFound(index=index_name)
        return found
    field_name = getattr(request, "field_name", "")
    if field_name:
        indexes = [index for index in indexes if index.field_name == field_name]
    if not indexes:
        raise IndexNotFound(collection=info.name)
    return indexes


async def _progress(
    proxy: Proxy, request: Any, context: CallContext
) -> list[tuple[IndexInfo, IndexProgress]]:
    info = await find_collection(proxy, context, request.collection_name)
    indexes = await _wanted(proxy, info, request)
    segments = await proxy.coordinator.list_segments(info.collection_id)
    return [(index, index_progress(index, segments)) for index in indexes]


def _descriptions(progress: list[tuple[IndexInfo, IndexProgress]]) -> list[Any]:
    return [
        milvus.IndexDescription(
            index_name=index.name,
            indexID=index.index_id,
            params=dict_to_pairs(index.user_params),
            field_name=index.field_name,
            indexed_rows=rows.indexed_rows,
            total_rows=rows.total_rows,
            state=int(rows.state),
            index_state_fail_reason=rows.fail_reason,
            pending_index_rows=rows.pending_rows,
        )
        for index, rows in progress
    ]


async def describe_index(proxy: Proxy, request: Any, context: CallContext) -> Any:
    progress = await _progress(proxy, request, context)
    return milvus.DescribeIndexResponse(
        status=success(), index_descriptions=_descriptions(progress)
    )


async def get_index_statistics(proxy: Proxy, request: Any, context: CallContext) -> Any:
    progress = await _progress(proxy, request, context)
    return milvus.GetIndexStatisticsResponse(
        status=success(), index_descriptions=_descriptions(progress)
    )


async def get_index_state(proxy: Proxy, request: Any, context: CallContext) -> Any:
    _, rows = (await _progress(proxy, request, context))[0]
    return milvus.GetIndexStateResponse(
        status=success(), state=int(rows.state), fail_reason=rows.fail_reason
    )


async def get_index_build_progress(proxy: Proxy, request: Any, context: CallContext) -> Any:
    _, rows = (await _progress(proxy, request, context))[0]
    return milvus.GetIndexBuildProgressResponse(
        status=success(), indexed_rows=rows.indexed_rows, total_rows=rows.total_rows
    )


async def alter_index(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    if not request.index_name:
        raise InvalidParameter(f"index name should not be empty, collection = {info.name}")
    index = (await _wanted(proxy, info, request))[0]
    properties = pairs_to_dict(request.extra_params)
    delete_keys = list(request.delete_keys)
    check_alteration(index.index_type, properties)
    await proxy.coordinator.alter_index(info.collection_id, index.name, properties, delete_keys)
    return success()


async def drop_index(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """A missing index is fine. Without a name it is the index of the field, or the only one."""
    info = await find_collection(proxy, context, request.collection_name)
    name = request.index_name
    if not name and request.field_name:
        try:
            found = await _wanted(proxy, info, request)
        except IndexNotFound:
            return success()
        name = found[0].name
    await proxy.coordinator.drop_index(info.collection_id, name)
    return success()


HANDLERS = {
    "CreateIndex": create_index,
    "DescribeIndex": describe_index,
    "GetIndexStatistics": get_index_statistics,
    "GetIndexState": get_index_state,
    "GetIndexBuildProgress": get_index_build_progress,
    "AlterIndex": alter_index,
    "DropIndex": drop_index,
}
