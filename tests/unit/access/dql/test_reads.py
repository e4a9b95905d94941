"""Search, query and hybrid search over several shards, against brute force."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest

from elanus.access.dml.insert import insert
from elanus.access.dql.hybrid import hybrid_search
from elanus.access.dql.query import query
from elanus.access.dql.search import search
from elanus.errors import ElanusError
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, LoadState, MetricType
from elanus.wire.protocol import common, milvus, packed, schema

DIM = 4
COUNT = 60
KEY = FieldSchema(name="id", data_type=DataType.INT64, is_primary=True)
TEXT_KEY = FieldSchema(
    name="id", data_type=DataType.VARCHAR, is_primary=True, type_params={"max_length": "20"}
)
VECTOR = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(DIM)})
OTHER = FieldSchema(name="w", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(DIM)})
COLOUR = FieldSchema(name="colour", data_type=DataType.VARCHAR, type_params={"max_length": "20"})
COLOURS = ("red", "green", "blue")


def points(count: int = COUNT, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(-3, 4, (count, DIM)).astype(np.float32)


async def fill(bench: Any, *, strings: bool = False, **options: Any) -> Any:
    """COUNT rows: id = row number, v = points(), w = points(seed=2), colour by turns."""
    fields = (TEXT_KEY if strings else KEY, VECTOR, OTHER, COLOUR)
    info = bench.create(*fields, dynamic=True, **{"shards": 3, **options})
    sent = milvus.InsertRequest(collection_name="things", num_rows=COUNT)
    keys = [f"k{row:02}" for row in range(COUNT)] if strings else list(range(COUNT))
    key_type = DataType.VARCHAR if strings else DataType.INT64
    bench.add_column(sent, "id", key_type, keys)
    bench.add_column(sent, "v", DataType.FLOAT_VECTOR, points())
    bench.add_column(sent, "w", DataType.FLOAT_VECTOR, points(seed=2))
    bench.add_column(sent, "colour", DataType.VARCHAR, [COLOURS[row % 3] for row in range(COUNT)])
    texts = [json.dumps({"row": row, "even": row % 2 == 0}).encode() for row in range(COUNT)]
    bench.add_column(sent, "$meta", DataType.JSON, texts)
    await bench.call(insert, sent)
    bench.cluster.seen.clear()
    return info


def distances(queries: Any, rows: Any, metric: MetricType) -> Any:
    queries, rows = np.asarray(queries, np.float64), np.asarray(rows, np.float64)
    if metric is MetricType.L2:
        return ((queries[:, None, :] - rows[None]) ** 2).sum(-1)
    products = queries @ rows.T
    if metric is MetricType.COSINE:
        norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=1)[None]
        return np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return products


def nearest(queries: Any, metric: MetricType, keep: Any = None) -> list[list[tuple[int, float]]]:
    """Every row by (score, id), best first, for each query."""
    scores = distances(queries, points(), metric).astype(np.float32)
    sign = -1 if metric.larger_is_better else 1
    rows = [row for row in range(COUNT) if keep is None or keep(row)]
    return [
        sorted(((row, float(line[row])) for row in rows), key=lambda hit: (sign * hit[1], hit[0]))
        for line in scores
    ]


def hits_of(answer: Any) -> list[list[tuple[Any, float]]]:
    results = answer.results
    keys = list(results.ids.int_id.data or results.ids.str_id.data)
    flat = iter(zip(keys, packed(results, "scores").tolist(), strict=True))
    return [[next(flat) for _ in range(count)] for count in results.topks]


def column(answer: Any, name: str) -> Any:
    fields = getattr(answer, "results", answer).fields_data
    return next(each for each in fields if each.field_name == name)


async def find(bench: Any, queries: Any, **options: Any) -> Any:
    """Searches ``v`` unless the parameters say otherwise."""
    options["params"] = {"anns_field": "v", **options.get("params", {})}
    return await bench.call(search, bench.search_request(queries, **options))


QUERIES = points(3, seed=9)


# --- search ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.IP])
async def test_search_equals_brute_force_ties_included(bench: Any, metric: MetricType) -> None:
    await fill(bench, metric=metric)
    answer = await find(bench, QUERIES, limit=10)
    assert hits_of(answer) == [hits[:10] for hits in nearest(QUERIES, metric)]
    assert answer.results.num_queries == 3
    assert answer.results.top_k == 10
    assert answer.results.primary_field_name == "id"
    assert answer.session_ts > 0


async def test_offset_leaves_out_the_first_hits_of_every_query(bench: Any) -> None:
    await fill(bench)
    answer = await find(bench, QUERIES, limit=5, params={"offset": 7}, output_fields=["colour"])
    found = hits_of(answer)
    assert found == [hits[7:12] for hits in nearest(QUERIES, MetricType.L2)]
    colours = [COLOURS[row % 3] for hits in found for row, _ in hits]
    assert list(column(answer, "colour").scalars.string_data.data) == colours


async def test_filter_and_output_fields(bench: Any) -> None:
    await fill(bench)
    answer = await find(
        bench, QUERIES, dsl='colour == "red" and row < 30', output_fields=["colour", "v", "even"]
    )
    found = hits_of(answer)
    expected = nearest(QUERIES, MetricType.L2, lambda row: row % 3 == 0 and row < 30)
    assert found == [hits[:3] for hits in expected]
    rows = [row for hits in found for row, _ in hits]
    assert packed(column(answer, "v").vectors.float_vector, "data").tolist() == (
        points()[rows].reshape(-1).tolist()
    )
    dynamic = column(answer, "$meta")
    assert dynamic.is_dynamic
    assert [json.loads(text) for text in dynamic.scalars.json_data.data] == [
        {"even": row % 2 == 0} for row in rows
    ]
    assert set(answer.results.output_fields) == {"colour", "v", "even"}
    assert "id" not in {each.field_name for each in answer.results.fields_data}


async def test_star_gives_every_field_and_the_whole_dynamic_field(bench: Any) -> None:
    await fill(bench)
    answer = await find(bench, QUERIES[:1], limit=1, output_fields=["*"])
    names = {each.field_name for each in answer.results.fields_data}
    assert names == {"id", "v", "w", "colour", "$meta"}
    [text] = column(answer, "$meta").scalars.json_data.data
    assert set(json.loads(text)) == {"row", "even"}


async def test_string_keys_are_ordered_by_bytes(bench: Any) -> None:
    await fill(bench, strings=True)
    answer = await find(bench, QUERIES, limit=10)
    assert hits_of(answer) == [
        [(f"k{row:02}", score) for row, score in hits[:10]]
        for hits in nearest(QUERIES, MetricType.L2)
    ]


async def test_scores_are_rounded_on_demand(bench: Any) -> None:
    await fill(bench, metric=MetricType.COSINE)
    answer = await find(bench, QUERIES, limit=10, params={"round_decimal": 2})
    for hits in hits_of(answer):
        assert [score for _, score in hits] == pytest.approx(
            [math.floor(score * 100 + 0.5) / 100 for _, score in hits], abs=1e-6
        )


async def test_a_range_search_keeps_its_bounds(bench: Any) -> None:
    await fill(bench)
    params = {"params": '{"radius": 20.0, "range_filter": 8.0}'}
    answer = await find(bench, QUERIES, limit=COUNT, params=params)
    assert hits_of(answer) == [
        [hit for hit in hits if 8 <= hit[1] < 20] for hits in nearest(QUERIES, MetricType.L2)
    ]


@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.IP])
async def test_a_search_iterator_reaches_every_row_once(bench: Any, metric: MetricType) -> None:
    await fill(bench, metric=metric)
    params = {"iterator": True, "search_iter_v2": True, "search_iter_batch_size": 20}
    probe = await find(bench, QUERIES[:1], limit=1, params={**params, "search_iter_batch_size": 1})
    state = probe.results.search_iterator_v2_results
    assert state.token
    expected = nearest(QUERIES[:1], metric)[0]
    assert state.last_bound == expected[0][1]
    seen: list[tuple[int, float]] = []
    timestamp, page = probe.session_ts, params
    while True:
        answer = await find(
            bench, QUERIES[:1], limit=20, params=page, guarantee_timestamp=timestamp
        )
        assert answer.session_ts == timestamp
        state = answer.results.search_iterator_v2_results
        [hits] = hits_of(answer)
        if not hits:
            break
        seen += hits
        page = {**params, "search_iter_id": state.token, "search_iter_last_bound": state.last_bound}
    assert state.last_bound == seen[-1][1]
    # COUNT rows have few distinct scores; no tie of them is torn apart by the end of a page.
    assert seen == expected


async def test_partitions_are_searched_by_name(bench: Any) -> None:
    info = await fill(bench, partitions=("_default", "empty"))
    answer = await find(bench, QUERIES, partition_names=["empty"])
    assert hits_of(answer) == [[], [], []]
    assert {read.partition_ids for read in bench.cluster.seen} == {(11,)}
    assert len(bench.cluster.seen) == len(info.vchannels)


async def test_search_by_primary_keys_uses_the_rows_vectors(bench: Any) -> None:
    await fill(bench)
    request = bench.search_request(QUERIES, limit=4, params={"anns_field": "v"})
    request.ids.int_id.data.extend([30, 5])
    request.nq = 2
    answer = await bench.call(search, request)
    assert hits_of(answer) == [hits[:4] for hits in nearest(points()[[30, 5]], MetricType.L2)]
    request.ids.int_id.data[:] = [1, 99]
    with pytest.raises(ElanusError, match=r"do not exist: missing IDs = \[99\]"):
        await bench.call(search, request)
    request.ids.int_id.data[:] = [1, 1]
    with pytest.raises(ElanusError, match="duplicate IDs found in search request"):
        await bench.call(search, request)


BAD_SEARCHES: list[tuple[dict[str, Any], str, int]] = [
    ({"collection_name": "none"}, "can't find collection", 100),
    ({"collection_name": ""}, "collection name should not be empty", 1100),
    ({"params": {"anns_field": ""}}, "multiple anns_fields exist, please specify a anns_f", 65535),
    ({"params": {"anns_field": "x"}}, "fieldName(x) not found: invalid parameter", 1100),
    ({"params": {"anns_field": "colour"}}, "field (colour) to search is not of vector", 1100),
    (
        {"params": {"metric_type": "IP"}},
        "metric type not match: invalid parameter[expected=L2][actual=IP]",
        1100,
    ),
    ({"limit": 0}, "topk [0] is invalid, it should be in range [1, 16384], but got 0", 65535),
    ({"vectors": [[1.0, 2.0]]}, "vector dimension mismatch, expected vector size(byte) 16", 1100),
    ({"vectors": [[1.0, 2.0, 3.0, math.nan]]}, "value 'NaN' is not a number or infinity", 1100),
    ({"nq": 5}, "nq does not equal the number of query vectors", 1100),
    ({"nq": 0}, "nq [0] is invalid, nq (number of search vector per search request)", 65535),
    ({"dsl": "x ==="}, "failed to create query plan: cannot parse expression: x ===", 1100),
    ({"output_fields": ["a b"]}, "parse output field name failed: a b", 1100),
    ({"partition_names": ["nowhere"]}, "partition name nowhere not found", 65535),
    ({"params": {"params": '{"radius": 1, "range_filter": 2}'}}, "must be less than radius", 65535),
    ({"params": {"collection_id": 77}}, "collection id:77 in the request is not consist", 65535),
]


@pytest.mark.parametrize(("change", "message", "code"), BAD_SEARCHES)
async def test_bad_searches(bench: Any, change: dict[str, Any], message: str, code: int) -> None:
    await fill(bench)
    change = dict(change)
    vectors = change.pop("vectors", QUERIES)
    params = {"anns_field": "v", **change.pop("params", {})}
    with pytest.raises(ElanusError) as caught:
        await find(bench, vectors, params=params, **change)
    assert message in caught.value.message
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("load", "message", "code"),
    [
        ({"state": LoadState.NOT_LOAD}, "collection not loaded[collection=things]", 101),
        ({"state": LoadState.LOADING, "progress": 40}, "40 % are loaded", 103),
        ({"partition_ids": (11,)}, "partition not loaded[partition=_default]", 201),
    ],
)
async def test_reads_of_what_is_not_loaded(
    bench: Any, load: dict[str, Any], message: str, code: int
) -> None:
    info = await fill(bench, partitions=("_default", "other"))
    bench.load(info, **load)
    for action, call in (
        ("search", find(bench, QUERIES, partition_names=["_default"])),
        ("query", ask(bench, "id > 0", partition_names=["_default"])),
    ):
        with pytest.raises(ElanusError) as caught:
            await call
        assert message in caught.value.message
        assert caught.value.code == code
        if code != 103:
            assert caught.value.message.startswith(f"failed to {action}: ")


async def test_a_filter_is_compiled_once(bench: Any) -> None:
    await fill(bench)
    for _ in range(2):
        await find(bench, QUERIES, dsl='colour == "red"')
    assert len(bench.proxy.plans) == 1
    assert len({id(read.plan) for read in bench.cluster.seen}) == 1
    await find(
        bench,
        QUERIES,
        dsl="colour == {c}",
        expr_template_values={"c": schema.TemplateValue(string_val="red")},
    )
    assert len(bench.proxy.plans) == 1


# --- query ----------------------------------------------------------------------------------------


async def ask(bench: Any, expression: str, *fields: str, **options: Any) -> Any:
    params = options.pop("params", {})
    message = milvus.QueryRequest(
        collection_name="things",
        expr=expression,
        output_fields=fields,
        query_params=bench.pairs(params),
        **options,
    )
    return await bench.call(query, message)


async def test_queries_are_ordered_by_key_and_cut_to_their_window(bench: Any) -> None:
    await fill(bench)
    answer = await ask(bench, 'colour == "red"', "colour", params={"limit": 5, "offset": 3})
    assert list(column(answer, "id").scalars.long_data.data) == [9, 12, 15, 18, 21]
    assert list(column(answer, "colour").scalars.string_data.data) == ["red"] * 5
    assert set(answer.output_fields) == {"id", "colour"}
    assert answer.session_ts > 0


async def test_an_empty_answer_has_its_columns(bench: Any) -> None:
    await fill(bench)
    answer = await ask(bench, "id > 1000", "*")
    names = {each.field_name for each in answer.fields_data}
    assert names == {"id", "v", "w", "colour", "$meta"}


async def test_count_sees_every_shard(bench: Any) -> None:
    await fill(bench)
    for expression, expected in (("", COUNT), ('colour == "red"', 20), ("id > 1000", 0)):
        answer = await ask(bench, expression, " COUNT( * )")
        [counted] = answer.fields_data
        assert counted.field_name == "count(*)"
        assert list(counted.scalars.long_data.data) == [expected]


async def test_keys_are_asked_of_their_shards_only(bench: Any) -> None:
    await fill(bench)
    answer = await ask(bench, "id in [7]", "colour")
    assert list(column(answer, "id").scalars.long_data.data) == [7]
    assert len(bench.cluster.seen) == 1


async def test_pages_of_a_query_iterator_are_of_one_instant(bench: Any) -> None:
    await fill(bench)
    first = await ask(bench, "id >= 0", params={"iterator": "True", "limit": 1})
    assert len({read.read_ts for read in bench.cluster.seen}) == 1
    more = milvus.InsertRequest(collection_name="things", num_rows=1)
    bench.add_column(more, "id", DataType.INT64, [1000])
    bench.add_column(more, "v", DataType.FLOAT_VECTOR, [[0.0] * DIM])
    bench.add_column(more, "w", DataType.FLOAT_VECTOR, [[0.0] * DIM])
    bench.add_column(more, "colour", DataType.VARCHAR, ["new"])
    await bench.call(insert, more)
    later = await ask(
        bench,
        "id >= 0",
        params={"iterator": "True", "limit": 1000},
        guarantee_timestamp=first.session_ts,
    )
    assert later.session_ts == first.session_ts
    assert list(column(later, "id").scalars.long_data.data) == list(range(COUNT))


@pytest.mark.parametrize(
    ("expression", "fields", "params", "message", "code"),
    [
        ("", ["id"], {}, "empty expression should be used with limit", 65535),
        ("", ["count(*)"], {"limit": 1}, "count entities with pagination is not allowed", 65535),
        ("id > 0", ["count(*)", "id"], {}, "count(*) can't be combined", 65535),
        ("id > 0", ["sum(id)"], {}, "aggregation sum(id) is not supported yet", 10),
        ("id > 0", ["id"], {"limit": -1}, "limit [-1] is invalid, should be greater", 65535),
        ("id >", ["id"], {}, "failed to create query plan: cannot parse expression: id >", 1100),
    ],
)
async def test_bad_queries(
    bench: Any, expression: str, fields: list[str], params: dict[str, Any], message: str, code: int
) -> None:
    await fill(bench)
    with pytest.raises(ElanusError) as caught:
        await ask(bench, expression, *fields, params=params)
    assert message in caught.value.message
    assert caught.value.code == code


async def test_unknown_fields_are_refused_without_a_dynamic_field(bench: Any) -> None:
    bench.create(KEY, VECTOR)
    with pytest.raises(ElanusError, match="field size not exist"):
        await ask(bench, "id > 0", "size")


async def test_results_over_the_limit_are_refused(bench: Any) -> None:
    await fill(bench)
    settings = bench.proxy.settings
    limits = msgspec.structs.replace(settings.quota_and_limits.limits, max_output_size=1000)
    quota = msgspec.structs.replace(settings.quota_and_limits, limits=limits)
    bench.proxy.settings = msgspec.structs.replace(settings, quota_and_limits=quota)
    with pytest.raises(ElanusError, match="query results exceed the maxOutputSize Limit 1000"):
        await ask(bench, "id >= 0", "*")
    with pytest.raises(ElanusError, match="search results exceed the maxOutputSize Limit 1000"):
        await find(bench, QUERIES, limit=50, output_fields=["*"])


# --- hybrid search --------------------------------------------------------------------------------


def fused_request(bench: Any, rank: dict[str, Any], *, limit: int = 8, **options: Any) -> Any:
    parts = [
        bench.search_request(QUERIES, limit=20, params={"anns_field": name}) for name in ("v", "w")
    ]
    for part, expression in zip(parts, options.pop("filters", ("", "")), strict=True):
        part.dsl = expression
    return milvus.HybridSearchRequest(
        collection_name="things",
        requests=parts,
        rank_params=bench.pairs({"limit": limit, **rank}),
        **options,
    )


def reciprocal(queries: Any, offset: int, limit: int) -> list[list[tuple[int, float]]]:
    answer = []
    for number in range(len(queries)):
        scores: dict[int, np.float32] = {}
        for seed in (1, 2):
            line = distances(queries[number : number + 1], points(seed=seed), MetricType.L2)[0]
            order = sorted(range(COUNT), key=lambda row, line=line: (line[row], row))[:20]
            for rank, row in enumerate(order, start=1):
                scores[row] = scores.get(row, np.float32(0)) + np.float32(1) / np.float32(60 + rank)
        ranked = sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))
        answer.append([(row, float(score)) for row, score in ranked[offset : offset + limit]])
    return answer


async def test_reciprocal_rank_fusion_equals_the_formula(bench: Any) -> None:
    await fill(bench)
    request = fused_request(
        bench,
        {"strategy": "rrf", "params": "{}", "offset": 2},
        output_fields=["colour", "row"],
    )
    answer = await bench.call(hybrid_search, request)
    found, expected = hits_of(answer), reciprocal(QUERIES, 2, 8)
    assert [[row for row, _ in hits] for hits in found] == [
        [row for row, _ in hits] for hits in expected
    ]
    rows = [row for hits in found for row, _ in hits]
    assert list(column(answer, "colour").scalars.string_data.data) == [
        COLOURS[row % 3] for row in rows
    ]
    assert [json.loads(text)["row"] for text in column(answer, "$meta").scalars.json_data.data] == (
        rows
    )
    instants = {read.read_ts for read in bench.cluster.seen}
    assert instants == {answer.session_ts}


async def test_offsets_of_sub_requests_do_not_count(bench: Any) -> None:
    await fill(bench)
    request = fused_request(bench, {"strategy": "rrf", "params": "{}"})
    expected = hits_of(await bench.call(hybrid_search, request))
    for part in request.requests:
        part.search_params.extend(bench.pairs({"offset": 3}))
    assert hits_of(await bench.call(hybrid_search, request)) == expected


async def test_sub_requests_keep_their_own_filters(bench: Any) -> None:
    await fill(bench)
    request = fused_request(
        bench,
        {"strategy": "weighted", "params": '{"weights": [1, 0], "norm_score": true}'},
        filters=('colour == "red"', 'colour == "blue"'),
    )
    answer = await bench.call(hybrid_search, request)
    for hits in hits_of(answer):
        assert {row % 3 for row, _ in hits} == {0}
        scores = [score for _, score in hits]
        assert scores == sorted(scores, reverse=True)


async def test_a_rerank_function_says_the_same_as_rank_params(bench: Any) -> None:
    await fill(bench)
    plain = fused_request(bench, {"strategy": "rrf", "params": '{"k": 5}'})
    function = fused_request(bench, {})
    function.function_score.functions.add(
        type=3,
        params=[
            common.KeyValuePair(key="reranker", value="rrf"),
            common.KeyValuePair(key="k", value="5"),
        ],
    )
    first, second = [await bench.call(hybrid_search, each) for each in (plain, function)]
    assert hits_of(first) == hits_of(second)


BAD_RANKS = [
    ({"limit": 0}, "limit [0] is invalid, it should be in range [1, 16384], but got 0", 65535),
    ({"strategy": "best", "params": "{}"}, "unsupported rank type best", 65535),
    ({"strategy": "rrf"}, "params not found in rank_params", 65535),
    ({"strategy": "rrf", "params": '{"k": 0}'}, "k should be in range (0, 16384)", 65535),
    ({"strategy": "rrf", "params": '{"k": "x"}'}, "The type of rank param k should be", 65535),
    (
        {"strategy": "weighted", "params": '{"weights": [1]}'},
        "the length of weights param mismatch with ann search requests: "
        "invalid parameter[expected=2][actual=1]",
        1100,
    ),
    (
        {"strategy": "weighted", "params": '{"weights": [1, 2]}'},
        "rank param weight should be in range [0, 1]",
        65535,
    ),
    (
        {"strategy": "rrf", "params": "{}", "rank_group_scorer": "best"},
        "input group scorer type: best is not supported!",
        1100,
    ),
]


@pytest.mark.parametrize(("rank", "message", "code"), BAD_RANKS)
async def test_bad_rank_parameters(
    bench: Any, rank: dict[str, Any], message: str, code: int
) -> None:
    await fill(bench)
    with pytest.raises(ElanusError) as caught:
        await bench.call(hybrid_search, fused_request(bench, rank))
    assert message in caught.value.message
    assert caught.value.code == code


async def test_bad_hybrid_searches(bench: Any) -> None:
    await fill(bench)
    request = fused_request(bench, {})
    del request.rank_params[:]
    with pytest.raises(ElanusError, match="limit not found in rank_params"):
        await bench.call(hybrid_search, request)
    request = fused_request(bench, {})
    request.requests[0].CopyFrom(bench.search_request(QUERIES[:1], params={"anns_field": "v"}))
    with pytest.raises(ElanusError, match="sub search request nq should be the same"):
        await bench.call(hybrid_search, request)
    del request.requests[:]
    with pytest.raises(ElanusError, match="minimum of ann search requests is 1"):
        await bench.call(hybrid_search, request)
