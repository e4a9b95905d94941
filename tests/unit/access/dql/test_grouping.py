"""Grouping search over several shards: the answer, its pages, what is refused; hybrid search."""

from typing import Any

import pytest
from tests.unit.access.dql.test_reads import (
    COLOURS,
    QUERIES,
    column,
    fill,
    find,
    fused_request,
    hits_of,
    nearest,
    reciprocal,
)

from elanus.access.dql.hybrid import hybrid_search
from elanus.errors import ElanusError
from elanus.model.types import DataType, MetricType
from elanus.wire.protocol import packed

BY_COLOUR = {"group_by_field": "colour"}


def expected_groups(ranked: list[tuple[int, float]], groups: Any, limit: int, size: int) -> Any:
    """Hits of the best groups, one group after another."""
    found: dict[Any, list[tuple[int, float]]] = {}
    for hit in ranked:
        group = groups(hit[0])
        if group in found or len(found) < limit:
            found.setdefault(group, []).append(hit)
    return [hit for hits in found.values() for hit in hits[:size]]


def colour(row: int) -> str:
    return COLOURS[row % 3]


async def test_the_best_row_of_each_group_is_found(bench: Any) -> None:
    await fill(bench)
    answer = await find(bench, QUERIES, limit=2, params=BY_COLOUR, output_fields=["colour"])
    expected = [expected_groups(hits, colour, 2, 1) for hits in nearest(QUERIES, MetricType.L2)]
    assert hits_of(answer) == expected
    values = answer.results.group_by_field_value
    colours = [colour(row) for hits in expected for row, _ in hits]
    assert (values.field_name, values.type) == ("colour", int(DataType.VARCHAR))
    assert list(values.scalars.string_data.data) == colours
    assert list(column(answer, "colour").scalars.string_data.data) == colours


@pytest.mark.parametrize("offset", [0, 1])
async def test_strict_groups_are_full_and_offset_counts_groups(bench: Any, offset: int) -> None:
    await fill(bench)
    params = {**BY_COLOUR, "group_size": 4, "strict_group_size": True, "offset": offset}
    answer = await find(bench, QUERIES, limit=2, params=params, output_fields=["colour"])
    expected = [
        expected_groups(hits, colour, 2 + offset, 4)[4 * offset :]
        for hits in nearest(QUERIES, MetricType.L2)
    ]
    assert hits_of(answer) == expected
    assert answer.results.topks == [len(hits) for hits in expected]
    assert len({read.read_ts for read in bench.cluster.seen}) == 1


async def test_groups_that_are_not_strict_may_be_smaller(bench: Any) -> None:
    await fill(bench)
    answer = await find(bench, QUERIES, limit=3, params={**BY_COLOUR, "group_size": 5})
    for hits, ranked in zip(hits_of(answer), nearest(QUERIES, MetricType.L2), strict=True):
        colours = [colour(row) for row, _ in hits]
        assert list(dict.fromkeys(colours)) == list(dict.fromkeys(colour(r) for r, _ in ranked))
        assert all(colours.count(each) <= 5 for each in COLOURS)


@pytest.mark.parametrize(
    ("params", "kind", "value"),
    [
        ({"group_by_field": "even"}, DataType.VARCHAR, lambda row: str(row % 2 == 0).lower()),
        (
            {"group_by_field": '$meta["row"]', "json_type": "Int8"},
            DataType.INT8,
            lambda row: row,
        ),
        (
            {"group_by_field": "$meta", "json_path": '$meta["even"]', "json_type": "Bool"},
            DataType.BOOL,
            lambda row: row % 2 == 0,
        ),
        ({"group_by_field": "nowhere"}, DataType.VARCHAR, lambda row: None),
        ({"group_by_fields": "id"}, DataType.INT64, lambda row: row),
    ],
)
async def test_groups_by_values_in_documents(
    bench: Any, params: dict[str, Any], kind: DataType, value: Any
) -> None:
    await fill(bench)
    answer = await find(bench, QUERIES[:1], limit=5, params=params)
    ranked = nearest(QUERIES[:1], MetricType.L2)[0]
    expected = expected_groups(ranked, value, 5, 1)
    assert hits_of(answer) == [expected]
    sent = answer.results.group_by_field_value
    assert sent.type == int(kind)
    if value(0) is None:
        assert packed(sent, "valid_data").tolist() == [False]


async def test_no_rows_make_no_groups(bench: Any) -> None:
    await fill(bench)
    params = {**BY_COLOUR, "group_size": 2, "strict_group_size": "true"}
    answer = await find(bench, QUERIES, dsl="row > 100", params=params, output_fields=["colour"])
    assert hits_of(answer) == [[], [], []]
    assert answer.results.group_by_field_value.type == int(DataType.VARCHAR)


BAD_GROUPS: list[tuple[dict[str, Any], str, int]] = [
    ({"group_by_field": "v"}, "unsupported data type VECTOR_FLOAT for group by operator", 65535),
    (
        {**BY_COLOUR, "params": '{"radius": 3}'},
        "Not allowed to do range-search when doing search-group-by",
        1100,
    ),
    (
        {**BY_COLOUR, "iterator": "True"},
        "Not allowed to do groupBy when doing iteration",
        1100,
    ),
    ({**BY_COLOUR, "json_path": "colour['a']"}, "json_path is for a JSON field", 1100),
    ({"group_by_field": "even", "json_type": "Double"}, "unsupported json_type DOUBLE", 65535),
    (
        {"group_by_field": "even", "json_type": "Int8", "strict_cast": "True"},
        "failed to cast json value to int8_t, wrong json data inner type",
        65535,
    ),
]


@pytest.mark.parametrize(("params", "message", "code"), BAD_GROUPS)
async def test_bad_groups(bench: Any, params: dict[str, Any], message: str, code: int) -> None:
    await fill(bench)
    with pytest.raises(ElanusError) as caught:
        await find(bench, QUERIES, params=params)
    assert message in caught.value.message
    assert caught.value.code == code


async def test_a_group_needs_a_field_that_is_there(bench: Any) -> None:
    await fill(bench)
    info = bench.cluster.collections["things"]
    plain = bench.create(*info.schema.user_fields, name="plain", shards=1)
    with pytest.raises(ElanusError) as caught:
        await find(bench, QUERIES, collection_name=plain.name, params={"group_by_field": "nowhere"})
    assert caught.value.code == 1700
    assert caught.value.message == (
        "groupBy field not found in schema: field not found[field=nowhere]"
    )


@pytest.mark.parametrize("scorer", ["max", "sum", "avg"])
@pytest.mark.parametrize("offset", [0, 1])
async def test_hybrid_search_ranks_groups(bench: Any, scorer: str, offset: int) -> None:
    await fill(bench)
    rank = {
        "strategy": "rrf",
        "params": "{}",
        "group_by_field": '$meta["row"]',
        "rank_group_scorer": scorer,
        "offset": offset,
    }
    # Each row is a group of its own: then groups are ranked as rows are.
    answer = await bench.call(hybrid_search, fused_request(bench, rank, output_fields=["colour"]))
    assert hits_of(answer) == reciprocal(QUERIES, offset, 8)
    assert len(answer.results.group_by_field_value.scalars.string_data.data) == 24
    rank = {**rank, "group_by_field": "colour", "group_size": 3, "strict_group_size": "True"}
    request = fused_request(bench, rank, limit=2)
    for part in request.requests:
        part.search_params.extend(bench.pairs({"limit": 20}))
    answer = await bench.call(hybrid_search, request)
    how = {"max": max, "sum": sum, "avg": lambda scores: sum(scores) / len(scores)}[scorer]
    for hits in hits_of(answer):
        groups: dict[str, list[float]] = {}
        for row, score in hits:
            groups.setdefault(colour(row), []).append(score)
        assert len(groups) == 2
        assert [row for row, _ in hits] == [
            row for name in groups for row, _ in hits if colour(row) == name
        ]
        scores = [how(each) for each in groups.values()]
        assert scores == sorted(scores, reverse=True)
        assert all(
            each == sorted(each, reverse=True) and len(each) <= 3 for each in groups.values()
        )
