"""Search and query parameters: what is understood, what is refused, in which words."""

from typing import Any

import pytest

from elanus.access.dql.index_parameters import check_index_parameters
from elanus.access.dql.parameters import (
    IteratorPage,
    check_collection_id,
    check_nq,
    check_range,
    parse_query,
    parse_search,
)
from elanus.config.settings import LimitsSettings
from elanus.errors import ElanusError, Rejected, Unimplemented
from elanus.model.types import MetricType

LIMITS = LimitsSettings()
TOKEN = "01234567-89ab-4def-8123-456789abcdef"
PAGE = {
    "topk": "5",
    "iterator": "True",
    "search_iter_v2": "True",
    "search_iter_batch_size": "5",
}


def search(nq: int = 1, **given: str) -> Any:
    return parse_search({"topk": "10", **given}, LIMITS, nq=nq)


def test_parameters_of_the_index_are_found_flat_and_nested() -> None:
    nested = search(params='{"ef": 64, "radius": 0.5, "metric_type": "L2"}')
    flat = search(ef="64", radius="0.5", metric_type="L2")
    both = search(ef="64", params='{"ef": 64, "radius": 0.5}', metric_type="L2")
    for found in (nested, flat, both):
        assert found.index["ef"] == 64
        assert found.radius == 0.5
        assert found.metric == "L2"


def test_defaults() -> None:
    found = search()
    assert (found.limit, found.offset, found.top_k) == (10, 0, 10)
    assert (found.round_decimal, found.radius, found.ignore_growing) == (-1, None, False)
    assert found.page is None


def test_range_filter_alone_is_ignored() -> None:
    assert search(params='{"range_filter": 1}').range_filter is None


def test_iterators_clamp_the_limit() -> None:
    found = parse_search({"topk": "99999", "iterator": "True"}, LIMITS, nq=1)
    assert found.limit == 16384


def test_pages_of_an_iterator() -> None:
    assert parse_search(PAGE, LIMITS, nq=1).page == IteratorPage("")
    later = {**PAGE, "search_iter_id": TOKEN, "search_iter_last_bound": "1.5"}
    assert parse_search(later, LIMITS, nq=1).page == IteratorPage(TOKEN, 1.5)


BAD_SEARCHES: list[tuple[dict[str, str], str, int]] = [
    ({"topk": "0"}, "topk [0] is invalid, it should be in range [1, 16384], but got 0", 65535),
    (
        {"topk": "16385"},
        "topk [16385] is invalid, it should be in range [1, 16384], but got 16385",
        65535,
    ),
    ({"topk": "ten"}, "topk [ten] is invalid", 65535),
    ({"offset": "-1"}, "offset [-1] is invalid, it should be in range [1, 16384]", 65535),
    (
        {"topk": "16384", "offset": "1"},
        "offset+topk [16385] is invalid, it should be in range [1, 16384], but got 16385",
        65535,
    ),
    (
        {"round_decimal": "7"},
        "round_decimal [7] is invalid, should be -1 or an integer in range [0, 6]",
        65535,
    ),
    ({"ignore_growing": "maybe"}, "parse ignore growing field failed", 65535),
    ({"params": "{"}, "params is not valid JSON", 1100),
    ({"params": "[]"}, "params should be a JSON object", 1100),
    ({"params": '{"ef": 1}', "ef": "2"}, "ambiguous parameter: ef", 1100),
    ({"params": '{"radius": "x"}'}, "type must be number", 65535),
    ({"hints": "fast"}, "Create Plan by expr failed:  => hints: fast not supported", 65535),
    ({"group_by_fields": "a,b"}, "several group_by_fields are not supported yet", 10),
    (
        {"group_by_field": "a", "group_size": "11"},
        "input group size:11 exceeds configured max group size:10",
        1100,
    ),
    (
        {"group_by_field": "a", "group_size": "-1"},
        "input group size:-1 is negative, failed to do search_groupby",
        1100,
    ),
    (
        {"group_by_field": "a", "group_size": "x"},
        "failed to parse input group size:x",
        1100,
    ),
    ({"order_by_fields": "a:asc"}, "order_by_fields is not supported in search yet", 10),
    ({**PAGE, "iterator": "False"}, "both iterator and search_iter_v2 must be set", 65535),
    ({**PAGE, "offset": "1"}, "Setting an offset is not permitted when using a search", 65535),
    ({**PAGE, "search_iter_id": "x"}, "invalid token format", 65535),
    ({"search_iter_v2": "True", "iterator": "True"}, "batch size is required", 65535),
]


@pytest.mark.parametrize(("given", "message", "code"), BAD_SEARCHES)
def test_bad_search_parameters(given: dict[str, str], message: str, code: int) -> None:
    with pytest.raises(ElanusError) as caught:
        search(**given)
    assert message in caught.value.message
    assert caught.value.code == code


def test_topk_is_required_unless_the_whole_has_a_limit() -> None:
    with pytest.raises(Rejected, match="topk not found in search_params"):
        parse_search({}, LIMITS, nq=1)
    assert parse_search({}, LIMITS, nq=1, default_limit=3).limit == 3


def test_an_iterator_takes_one_vector() -> None:
    with pytest.raises(Rejected, match="does not support processing multiple vectors"):
        parse_search(PAGE, LIMITS, nq=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": "0"}, "limit [0] is invalid, should be greater than 0"),
        ({"limit": "-1"}, "limit [-1] is invalid, should be greater than 0"),
        ({"limit": "1", "offset": "-1"}, "offset [-1] is invalid, should be gte than 0"),
        (
            {"limit": "16384", "offset": "1"},
            "(offset+limit) should be in range [1, 16384], but got 16385",
        ),
    ],
)
def test_bad_query_windows(given: dict[str, str], message: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_query(given, LIMITS)
    assert caught.value.message == f"invalid max query result window, {message}"


def test_a_query_without_limit_is_unlimited() -> None:
    found = parse_query({"reduce_stop_for_best": "True", "iterator": "False"}, LIMITS)
    assert (found.limit, found.offset, found.is_iterator) == (None, 0, False)


def test_unsupported_query_parameters_are_named() -> None:
    with pytest.raises(Unimplemented, match="order_by_fields"):
        parse_query({"order_by_fields": "a"}, LIMITS)


@pytest.mark.parametrize(
    ("metric", "radius", "range_filter", "message"),
    [
        (MetricType.L2, 1, 2, "metric type (L2), range_filter(2) must be less than radius(1)"),
        (
            MetricType.COSINE,
            0.5,
            0.25,
            "metric type (COSINE), range_filter(0.25) must be greater than radius(0.5)",
        ),
    ],
)
def test_inverted_ranges(
    metric: MetricType, radius: float, range_filter: float, message: str
) -> None:
    with pytest.raises(Rejected) as caught:
        check_range(metric, radius, range_filter)
    assert caught.value.message == message
    check_range(metric, range_filter, radius)


def test_nq_and_collection_id() -> None:
    with pytest.raises(Rejected, match=r"nq \[16385\] is invalid.*but got 16385"):
        check_nq(16385, LIMITS)
    with pytest.raises(Rejected, match="collection id:1 in the request is not consistent"):
        check_collection_id(1, 2)


@pytest.mark.parametrize(
    ("index_type", "given", "message"),
    [
        ("HNSW", {"ef": 1}, "ef(1) should be larger than k(10)"),
        ("HNSW", {"ef": 0}, "Out of range in json: param 'ef' (0) should be in range"),
        (
            "IVF_FLAT",
            {"nprobe": -1},
            "Out of range in json: param 'nprobe' (-1) should be in range [1, 65536]",
        ),
        ("HNSW", {"ef": 32.0}, "Type conflict in json: param 'ef' (32.0) should be integer"),
        ("HNSW", {"ef": True}, "Type conflict in json: param 'ef' (True) should be integer"),
        ("IVF_FLAT", {"nprobe": "x"}, "Type conflict in json: param 'nprobe' (x)"),
        ("SCANN", {"reorder_k": 5}, "reorder_k(5) should be larger than k(10)"),
        ("DISKANN", {"search_list": 1}, "search_list_size(1) should be larger than k(10)"),
    ],
)
def test_bad_index_parameters(index_type: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_index_parameters(index_type, given, top_k=10, unbounded=True)
    assert message in caught.value.message


def test_index_parameters_that_are_used() -> None:
    found = check_index_parameters("HNSW", {"ef": "64", "nprobe": -1}, top_k=10, unbounded=True)
    assert found == {"ef": 64}
    assert check_index_parameters("HNSW", {"ef": 5}, top_k=10, unbounded=False) == {"ef": 5}
    assert check_index_parameters("FLAT", {"ef": 5}, top_k=10, unbounded=True) == {}
