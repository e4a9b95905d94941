"""What a search or query asks for besides vectors and filter: parsed, checked, typed.

Rules and texts are Milvus's. Parameters of the index (ef, nprobe, …) may stand in the JSON text
``params`` or beside it; they are checked against the index by :mod:`index_parameters`.
"""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from elanus.access.dql import pairs as kv
from elanus.access.dql.group_by import GroupBy, parse_group_by
from elanus.config.settings import LimitsSettings
from elanus.errors import ElanusError, InvalidParameter, Rejected
from elanus.model.types import MetricType

MAX_ROUND_DECIMAL = 6
_HINTS = ("iterative_filter", "disable", "")
_UNSUPPORTED = ("order_by_fields", "search_aggregation")
_RESERVED = frozenset(
    {
        "anns_field", "topk", "limit", "offset", "metric_type", "params", "round_decimal",
        "ignore_growing", "group_by_field", "group_by_fields", "group_size", "strict_group_size",
        "json_path", "json_type", "strict_cast", "iterator", "search_iter_v2",
        "search_iter_batch_size", "search_iter_id", "search_iter_last_bound", "collection_id",
        "hints", "analyzer_name", "timezone", "time_fields", "order_by_fields", "dim", "nq",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class IteratorPage:
    """A page of a search iterator: rows strictly beyond ``last_bound``; no bound on page one."""

    token: str
    last_bound: float | None = None


@dataclass(frozen=True, slots=True)
class SearchParameters:
    """``limit``: hits, or groups, wanted after ``offset``. ``metric`` is empty if
    the user named none. ``index`` are the raw parameters of the index, to be read only."""

    limit: int
    offset: int = 0
    anns_field: str = ""
    metric: str = ""
    index: dict[str, Any] = field(default_factory=dict)
    round_decimal: int = -1
    radius: float | None = None
    range_filter: float | None = None
    ignore_growing: bool = False
    is_iterator: bool = False
    page: IteratorPage | None = None
    collection_id: int | None = None
    timezone: str = ""
    time_fields: str = ""
    analyzer_name: str = ""
    group_by: GroupBy | None = None

    @property
    def top_k(self) -> int:
        return self.limit + self.offset


@dataclass(frozen=True, slots=True)
class QueryParameters:
    """``limit`` None means every row. last_key, last_element: of an iterator over elements, the
    primary key and the place in the row of the last one that it has seen."""

    limit: int | None = None
    offset: int = 0
    ignore_growing: bool = False
    is_iterator: bool = False
    collection_id: int | None = None
    timezone: str = ""
    time_fields: str = ""
    last_key: str = ""
    last_element: int | None = None


def parse_search(
    given: Mapping[str, str],
    limits: LimitsSettings,
    *,
    nq: int,
    default_limit: int | None = None,
) -> SearchParameters:
    """``given``: the request's search_params. ``default_limit`` stands in for a missing topk (a
    sub-request of a hybrid search). Raises Rejected, InvalidParameter or Unimplemented.

    Clients send the same parameters again and again: what was parsed is remembered.
    """
    return _parse_search(tuple(given.items()), limits, nq > 1, default_limit)


@lru_cache(maxsize=1_024)
def _parse_search(
    items: tuple[tuple[str, str], ...],
    limits: LimitsSettings,
    several_queries: bool,
    default_limit: int | None,
) -> SearchParameters:
    given = dict(items)
    index = _index_parameters(given)
    kv.refuse({**index, **given}, _UNSUPPORTED, "search")
    page = _iterator_page(given, several_queries)
    is_iterator = page is not None or kv.read_flag(given, "iterator")
    limit, offset = _search_window(given, limits, is_iterator, default_limit)
    if page is not None and offset:
        raise Rejected("Setting an offset is not permitted when using a search iterator v2")
    _check_hints(given.get("hints") or index.pop("hints", ""))
    radius = _number(index.pop("radius", None))
    range_filter = _number(index.pop("range_filter", None))
    return SearchParameters(
        limit=limit,
        offset=offset,
        anns_field=given.get("anns_field", ""),
        metric=given.get("metric_type") or str(index.get("metric_type") or ""),
        index=index,
        round_decimal=parse_round_decimal(given),
        radius=radius,
        range_filter=None if radius is None else range_filter,
        ignore_growing=kv.read_flag(given, "ignore_growing"),
        is_iterator=is_iterator,
        page=page,
        collection_id=_collection_id(given),
        timezone=given.get("timezone", ""),
        time_fields=given.get("time_fields", ""),
        analyzer_name=given.get("analyzer_name", ""),
        group_by=parse_group_by(given, limits.max_group_size),
    )


def parse_query(given: Mapping[str, str], limits: LimitsSettings) -> QueryParameters:
    """``given``: the request's query_params."""
    kv.refuse(given, ("order_by_fields", "group_by_fields"), "query")
    limit, offset = _query_window(given, limits)
    return QueryParameters(
        limit=limit,
        offset=offset,
        ignore_growing=kv.read_flag(given, "ignore_growing"),
        is_iterator=kv.read_flag(given, "iterator"),
        collection_id=_collection_id(given),
        timezone=given.get("timezone", ""),
        time_fields=given.get("time_fields", ""),
        last_key=given.get("query_iter_last_pk", ""),
        last_element=_last_element(given),
    )


def _last_element(given: Mapping[str, str]) -> int | None:
    text = given.get("query_iter_last_element_offset")
    if text is None:
        return None
    return kv.read_int(text, f"query_iter_last_element_offset [{text}] is invalid")


def parse_round_decimal(given: Mapping[str, str]) -> int:
    text = given.get("round_decimal", "-1")
    message = f"round_decimal [{text}] is invalid, should be -1 or an integer in range [0, 6]"
    decimals = kv.read_int(text, message)
    if not -1 <= decimals <= MAX_ROUND_DECIMAL:
        raise Rejected(message)
    return decimals


def check_window(name: str, value: int, limit: int) -> None:
    """1 ≤ ``value`` ≤ ``limit``, in the words that Milvus has for topk, offset and their sum."""
    if not 1 <= value <= limit:
        raise Rejected(
            f"{name} [{value}] is invalid, it should be in range [1, {limit}], but got {value}"
        )


def check_nq(nq: int, limits: LimitsSettings) -> None:
    if not 1 <= nq <= limits.nq:
        raise Rejected(
            f"nq [{nq}] is invalid, nq (number of search vector per search request) should be in "
            f"range [1, {limits.nq}], but got {nq}"
        )


def check_range(metric: MetricType, radius: float | None, range_filter: float | None) -> None:
    """The bounds of a range search must leave room between them."""
    if radius is None or range_filter is None:
        return
    if metric.larger_is_better:
        fits, relation = range_filter > radius, "greater"
    else:
        fits, relation = range_filter < radius, "less"
    if not fits:
        raise Rejected(
            f"metric type ({metric}), range_filter({range_filter:g}) must be {relation} than "
            f"radius({radius:g})"
        )


def check_lists(given: SearchParameters, field_name: str) -> None:
    """What a search of lists of vectors can't have. Raises InvalidParameter."""
    refused = {"range search": given.radius is not None, "search iterator": given.is_iterator}
    for kind, is_asked in refused.items():
        if is_asked:
            raise InvalidParameter(
                f"{kind} is not supported for vector array (embedding list) fields, "
                f"fieldName: {field_name}"
            )


def check_collection_id(given: int | None, actual: int) -> None:
    """An iterator's later pages must meet the collection of its first."""
    if given is not None and given != actual:
        raise Rejected(
            f"collection id:{given} in the request is not consistent to that in the search "
            f"context,alias or database may have been changed: {actual}"
        )


def _index_parameters(given: Mapping[str, str]) -> dict[str, Any]:
    """``params`` and what stands beside it; one key with two values is ambiguous."""
    merged = kv.read_object(given.get("params", ""), "params")
    nested = merged.pop("params", None)  # of clients that write search_params as they are
    if isinstance(nested, dict):
        merged = {**nested, **merged}
    for key, text in given.items():
        if key in _RESERVED:
            continue
        value = kv.read_loose(text)
        if key in merged and merged[key] != value and str(merged[key]) != text:
            raise InvalidParameter(
                f"ambiguous parameter: {key}, in search_param: {text}, "
                f"in search_param.params: {merged[key]}"
            )
        merged[key] = value
    return merged


def _search_window(
    given: Mapping[str, str],
    limits: LimitsSettings,
    is_iterator: bool,
    default_limit: int | None,
) -> tuple[int, int]:
    text = given.get("topk", given.get("limit"))
    if text is None:
        if default_limit is None:
            raise Rejected("topk not found in search_params")
        limit = default_limit
    else:
        limit = kv.read_int(text, f"topk [{text}] is invalid")
    if is_iterator:
        limit = min(limit, limits.top_k)
    check_window("topk", limit, limits.top_k)
    offset = parse_offset(given, limits.top_k)
    if offset:
        check_window("offset+topk", limit + offset, limits.top_k)
    return limit, offset


def parse_offset(given: Mapping[str, str], limit: int) -> int:
    text = given.get("offset") or "0"
    offset = kv.read_int(text, f"offset [{text}] is invalid")
    if offset:
        check_window("offset", offset, limit)
    return offset


def _query_window(given: Mapping[str, str], limits: LimitsSettings) -> tuple[int | None, int]:
    prefix = "invalid max query result window, "
    text = given.get("limit")
    if not text:
        return None, 0
    limit = kv.read_int(text, f"{prefix}limit [{text}] is invalid")
    offset_text = given.get("offset") or "0"
    offset = kv.read_int(offset_text, f"{prefix}offset [{offset_text}] is invalid")
    if limit <= 0:
        raise Rejected(f"{prefix}limit [{limit}] is invalid, should be greater than 0")
    if offset < 0:
        raise Rejected(f"{prefix}offset [{offset}] is invalid, should be gte than 0")
    if limit + offset > limits.max_query_result_window:
        raise Rejected(
            f"{prefix}(offset+limit) should be in range "
            f"[1, {limits.max_query_result_window}], but got {limit + offset}"
        )
    return limit, offset


def _iterator_page(given: Mapping[str, str], several_queries: bool) -> IteratorPage | None:
    """The page that is asked for; a first page's token is empty."""
    if not kv.read_flag(given, "search_iter_v2"):
        return None
    if not kv.read_flag(given, "iterator"):
        raise Rejected("both iterator and search_iter_v2 must be set in the SDK")
    if several_queries:
        raise Rejected(
            "search_iterator_v2 does not support processing multiple vectors simultaneously"
        )
    text = given.get("search_iter_batch_size")
    if text is None:
        raise Rejected("batch size is required")
    kv.read_int(text, f"batch size [{text}] is invalid")
    token = given.get("search_iter_id", "")
    if token:
        try:
            uuid.UUID(token)
        except ValueError as error:
            raise Rejected("invalid token format") from error
    bound = given.get("search_iter_last_bound")
    if not bound:
        return IteratorPage(token)
    try:
        last_bound = float(bound)
    except ValueError as error:
        raise Rejected(f"failed to parse input last bound: {bound}") from error
    if math.isnan(last_bound):
        raise Rejected(f"failed to parse input last bound: {bound}")
    return IteratorPage(token, last_bound)


def _collection_id(given: Mapping[str, str]) -> int | None:
    text = given.get("collection_id")
    return kv.read_int(text, f"parse collection_id failed: {text}") if text else None


def _check_hints(hints: object) -> None:
    if hints not in _HINTS:
        raise _unsupported_hints(hints)


def _unsupported_hints(hints: object) -> ElanusError:
    return Rejected(f"Create Plan by expr failed:  => hints: {hints} not supported")


def _number(value: object) -> float | None:
    """A bound of a range search."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejected("radius and range_filter: type must be number")
    return float(value)
