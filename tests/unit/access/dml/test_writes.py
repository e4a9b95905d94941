"""Insert, upsert and delete, seen through what can be read afterwards."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from elanus.access.dml.delete import delete
from elanus.access.dml.insert import insert, upsert
from elanus.access.dql.query import query
from elanus.errors import ElanusError
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, LoadState
from elanus.rows.routing import bucket_of
from elanus.services.messages import WriteRequest
from elanus.wire.protocol import milvus

KEY = FieldSchema(name="id", data_type=DataType.INT64, is_primary=True)
AUTO = FieldSchema(name="id", data_type=DataType.INT64, is_primary=True, auto_id=True)
VECTOR = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "2"})
COLOUR = FieldSchema(
    name="colour", data_type=DataType.VARCHAR, nullable=True, type_params={"max_length": "20"}
)
TENANT = FieldSchema(name="tenant", data_type=DataType.INT64, is_partition_key=True)


def request(bench: Any, kind: Any, keys: list[int] | None, **options: Any) -> Any:
    """An insert or upsert of rows whose vector is (key, 0)."""
    count = options.pop("count", len(keys or []))
    colours = options.pop("colours", None)
    dynamic = options.pop("dynamic", None)
    vectors = options.pop("vectors", True)
    message = kind(collection_name="things", num_rows=count, **options)
    if keys is not None:
        bench.add_column(message, "id", DataType.INT64, keys)
    if vectors:
        points = [[float(key), 0.0] for key in (keys or range(count))]
        bench.add_column(message, "v", DataType.FLOAT_VECTOR, points)
    if colours is not None:
        bench.add_column(message, "colour", DataType.VARCHAR, colours)
    if dynamic is not None:
        texts = [json.dumps(row).encode() for row in dynamic]
        bench.add_column(message, "$meta", DataType.JSON, texts)
    return message


async def rows(bench: Any, expression: str = "id >= 0", *fields: str, **options: Any) -> Any:
    """Rows by query: id → values of ``fields``."""
    message = milvus.QueryRequest(
        collection_name="things", expr=expression, output_fields=fields, **options
    )
    answer = await bench.call(query, message)
    columns = {column.field_name: column for column in answer.fields_data}
    values = [columns[name].scalars for name in fields]
    found = [
        list(each.string_data.data or each.json_data.data or each.long_data.data) for each in values
    ]
    keys = list(columns["id"].scalars.long_data.data)
    return dict(zip(keys, zip(*found, strict=True), strict=True)) if found else keys


async def remove(bench: Any, expression: str, **options: Any) -> Any:
    message = milvus.DeleteRequest(collection_name="things", expr=expression, **options)
    return await bench.call(delete, message)


# --- insert ---------------------------------------------------------------------------------------


async def test_inserted_rows_are_on_the_shards_of_their_keys(bench: Any) -> None:
    info = bench.create(KEY, VECTOR, COLOUR, shards=3)
    keys = list(range(50))
    answer = await bench.call(insert, request(bench, milvus.InsertRequest, keys))
    assert list(answer.IDs.int_id.data) == keys
    assert list(answer.succ_index) == keys
    assert (answer.insert_cnt, answer.delete_cnt) == (50, 0)
    assert answer.timestamp > 0
    for write in bench.cluster.seen:
        [part] = write.inserts
        written = part.rows.column("id")
        shard = info.vchannels.index(write.vchannel)
        assert set(bucket_of(written, 3).tolist()) == {shard}
    assert len(bench.cluster.seen) == 3
    assert await rows(bench) == keys


async def test_generated_keys_are_answered_in_order(bench: Any) -> None:
    bench.create(AUTO, VECTOR)
    answer = await bench.call(insert, request(bench, milvus.InsertRequest, None, count=3))
    keys = list(answer.IDs.int_id.data)
    assert keys == [keys[0], keys[0] + 1, keys[0] + 2]
    assert await rows(bench) == keys


async def test_partition_keys_choose_the_partition(bench: Any) -> None:
    names = [f"_default_{number}" for number in range(4)]
    bench.create(KEY, VECTOR, TENANT, partitions=names, shards=1)
    message = request(bench, milvus.InsertRequest, list(range(8)))
    bench.add_column(message, "tenant", DataType.INT64, [0, 1, 2, 3, 0, 1, 2, 3])
    await bench.call(insert, message)
    [write] = bench.cluster.seen
    tenants = [set(part.rows.column("tenant").to_pylist()) for part in write.inserts]
    assert sum(map(len, tenants)) == len(set.union(*tenants)) == 4

    bench.cluster.seen.clear()
    assert await rows(bench, "tenant == 2") == [2, 6]
    [read] = bench.cluster.seen
    assert len(read.partition_ids) == 1


async def test_a_named_partition_is_used(bench: Any) -> None:
    bench.create(KEY, VECTOR, partitions=("_default", "red"))
    await bench.call(insert, request(bench, milvus.InsertRequest, [1], partition_name="red"))
    await bench.call(insert, request(bench, milvus.InsertRequest, [2]))
    assert await rows(bench, partition_names=["red"]) == [1]
    assert await rows(bench, partition_names=["_default"]) == [2]


BAD_INSERTS = [
    ({"keys": []}, "num_rows should be greater than 0", 1100),
    ({"schema_timestamp": 4}, "collection schema mismatch[collection=things]", 109),
    ({"partition_name": "blue"}, "partition not found[partition=blue]", 200),
    ({"partition_name": "$"}, "Invalid partition name: $. The first character", 65535),
    ({"collection_name": "none"}, "can't find collection[database=default][collection=none]", 100),
    ({"colours": ["x" * 21]}, "length of varchar field colour exceeds max length", 1100),
]


@pytest.mark.parametrize(("change", "message", "code"), BAD_INSERTS)
async def test_bad_inserts(bench: Any, change: dict[str, Any], message: str, code: int) -> None:
    bench.create(KEY, VECTOR, COLOUR)
    keys = change.pop("keys", [1])
    name = change.pop("collection_name", "things")
    sent = request(bench, milvus.InsertRequest, keys, vectors=bool(keys), **change)
    sent.collection_name = name
    with pytest.raises(ElanusError) as caught:
        await bench.call(insert, sent)
    assert message in caught.value.message
    assert caught.value.code == code
    assert not bench.cluster.seen


async def test_the_current_schema_timestamp_is_accepted(bench: Any) -> None:
    info = bench.create(KEY, VECTOR)
    sent = request(bench, milvus.InsertRequest, [1], schema_timestamp=info.updated_ts)
    assert (await bench.call(insert, sent)).insert_cnt == 1


async def test_an_insert_over_the_limit_is_refused(bench: Any) -> None:
    bench.create(KEY, VECTOR)
    limits = msgspec.structs.replace(
        bench.proxy.settings.quota_and_limits.limits, max_insert_size=100
    )
    quota = msgspec.structs.replace(bench.proxy.settings.quota_and_limits, limits=limits)
    bench.proxy.settings = msgspec.structs.replace(bench.proxy.settings, quota_and_limits=quota)
    with pytest.raises(ElanusError, match="insert request size exceeds maxInsertSize") as caught:
        await bench.call(insert, request(bench, milvus.InsertRequest, list(range(100))))
    assert caught.value.code == 1102


async def test_partition_names_and_a_partition_key_exclude_each_other(bench: Any) -> None:
    bench.create(KEY, VECTOR, TENANT, partitions=("_default_0",))
    sent = request(bench, milvus.InsertRequest, [1], partition_name="_default_0")
    with pytest.raises(ElanusError, match="not support manually specifying the partition names"):
        await bench.call(insert, sent)


# --- upsert ---------------------------------------------------------------------------------------


async def test_upsert_replaces_rows_in_one_write_per_shard(bench: Any) -> None:
    bench.create(KEY, VECTOR, COLOUR)
    await bench.call(insert, request(bench, milvus.InsertRequest, [1, 2], colours=["a", "b"]))
    bench.cluster.seen.clear()
    sent = request(bench, milvus.UpsertRequest, [2, 3], colours=["B", "C"])
    answer = await bench.call(upsert, sent)
    assert (answer.insert_cnt, answer.delete_cnt, answer.upsert_cnt) == (2, 2, 2)
    writes = [each for each in bench.cluster.seen if isinstance(each, WriteRequest)]
    assert len({write.vchannel for write in writes}) == len(writes)
    assert all(write.inserts and write.deletes for write in writes)
    assert await rows(bench, "id > 0", "colour") == {1: ("a",), 2: ("B",), 3: ("C",)}


async def test_upsert_refuses_duplicate_and_missing_keys(bench: Any) -> None:
    bench.create(KEY, VECTOR)
    with pytest.raises(ElanusError, match="duplicate primary keys are not allowed in the same"):
        await bench.call(upsert, request(bench, milvus.UpsertRequest, [1, 1]))
    with pytest.raises(ElanusError, match="must assign pk when upsert, primary field: id"):
        await bench.call(upsert, request(bench, milvus.UpsertRequest, None, count=1))


async def test_upsert_with_generated_keys_gives_the_row_a_new_one(bench: Any) -> None:
    bench.create(AUTO, VECTOR, COLOUR, shards=4)
    first = await bench.call(
        insert, request(bench, milvus.InsertRequest, None, count=2, colours=["a", "b"])
    )
    kept, replaced = first.IDs.int_id.data
    answer = await bench.call(
        upsert, request(bench, milvus.UpsertRequest, [replaced], colours=["B"])
    )
    [fresh] = answer.IDs.int_id.data
    assert fresh not in (kept, replaced)
    assert await rows(bench, "id > 0", "colour") == {kept: ("a",), fresh: ("B",)}


async def test_upsert_moves_a_row_between_key_partitions(bench: Any) -> None:
    names = [f"_default_{number}" for number in range(8)]
    bench.create(KEY, VECTOR, TENANT, partitions=names)
    for tenant in range(5):
        sent = request(bench, milvus.UpsertRequest, [1])
        bench.add_column(sent, "tenant", DataType.INT64, [tenant])
        await bench.call(upsert, sent)
        assert await rows(bench, "id == 1", "tenant") == {1: (tenant,)}


async def test_partial_upsert_keeps_what_is_not_given(bench: Any) -> None:
    bench.create(KEY, VECTOR, COLOUR, dynamic=True)
    first = request(
        bench,
        milvus.InsertRequest,
        [1, 2],
        colours=["a", "b"],
        dynamic=[{"size": 1, "age": 2}, {}],
    )
    await bench.call(insert, first)
    sent = request(
        bench,
        milvus.UpsertRequest,
        [2, 1],
        vectors=False,
        dynamic=[{"size": 5}, {"size": 7}],
        partial_update=True,
    )
    answer = await bench.call(upsert, sent)
    assert (answer.upsert_cnt, answer.delete_cnt) == (2, 2)
    found = await rows(bench, "id > 0", "colour", "$meta")
    assert {key: (row[0], json.loads(row[1])) for key, row in found.items()} == {
        1: ("a", {"size": 7, "age": 2}),
        2: ("b", {"size": 5}),
    }


async def test_partial_upsert_of_a_new_row_needs_every_required_field(bench: Any) -> None:
    bench.create(KEY, VECTOR, COLOUR)
    await bench.call(insert, request(bench, milvus.InsertRequest, [1]))
    sent = request(bench, milvus.UpsertRequest, [9], vectors=False, colours=["z"])
    sent.partial_update = True
    with pytest.raises(ElanusError, match=r"fieldSchema\(v\) has no corresponding fieldData"):
        await bench.call(upsert, sent)
    complete = request(bench, milvus.UpsertRequest, [9], partial_update=True)
    answer = await bench.call(upsert, complete)
    assert (answer.insert_cnt, answer.delete_cnt) == (1, 0)
    assert await rows(bench) == [1, 9]


async def test_partial_upsert_needs_a_loaded_collection(bench: Any) -> None:
    info = bench.create(KEY, VECTOR)
    bench.load(info, state=LoadState.NOT_LOAD)
    sent = request(bench, milvus.UpsertRequest, [1], partial_update=True)
    with pytest.raises(ElanusError, match="collection not loaded") as caught:
        await bench.call(upsert, sent)
    assert caught.value.code == 101


# --- delete ---------------------------------------------------------------------------------------


async def test_delete_by_keys_counts_the_listed_ones_and_needs_no_load(bench: Any) -> None:
    info = bench.create(KEY, VECTOR, shards=3)
    await bench.call(insert, request(bench, milvus.InsertRequest, [1, 2, 3]))
    bench.load(info, state=LoadState.NOT_LOAD)
    answer = await remove(bench, "id in [1, 3, 99]")
    assert answer.delete_cnt == 3
    assert answer.timestamp > 0
    assert not answer.IDs.int_id.data
    bench.load(info)
    assert await rows(bench) == [2]


async def test_delete_by_filter_counts_what_it_found(bench: Any) -> None:
    bench.create(KEY, VECTOR, COLOUR, shards=3)
    keys = list(range(20))
    colours = ["red" if key % 4 == 0 else "blue" for key in keys]
    await bench.call(insert, request(bench, milvus.InsertRequest, keys, colours=colours))
    answer = await remove(bench, 'colour == "red"')
    assert answer.delete_cnt == 5
    assert await rows(bench) == [key for key in keys if key % 4]
    assert (await remove(bench, 'colour == "red"')).delete_cnt == 0


async def test_delete_in_a_partition_leaves_the_others(bench: Any) -> None:
    bench.create(KEY, VECTOR, partitions=("_default", "red"))
    for partition in ("_default", "red"):
        sent = request(bench, milvus.InsertRequest, [1], partition_name=partition)
        await bench.call(insert, sent)
    await remove(bench, "id == 1", partition_name="red")
    assert await rows(bench, partition_names=["_default"]) == [1]
    assert await rows(bench, partition_names=["red"]) == []


@pytest.mark.parametrize(
    ("expression", "options", "message", "code"),
    [
        ("", {}, "delete plan can't be empty or always true : ", 1100),
        ("1 == 1", {}, "delete plan can't be empty or always true : ", 1100),
        ("id >", {}, "failed to create delete plan: cannot parse expression: id >", 1100),
        (
            "id == 1",
            {"partition_name": "blue"},
            "Failed to get partition id: partition not found[partition=blue]",
            200,
        ),
    ],
)
async def test_bad_deletes(
    bench: Any, expression: str, options: dict[str, Any], message: str, code: int
) -> None:
    bench.create(KEY, VECTOR)
    with pytest.raises(ElanusError) as caught:
        await remove(bench, expression, **options)
    assert message in caught.value.message
    assert caught.value.code == code


async def test_delete_by_filter_needs_a_loaded_collection(bench: Any) -> None:
    info = bench.create(KEY, VECTOR)
    bench.load(info, state=LoadState.NOT_LOAD)
    with pytest.raises(ElanusError, match="collection not loaded"):
        await remove(bench, "id > 5")


async def test_large_batches_take_the_same_path_in_a_thread(bench: Any) -> None:
    wide = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "128"})
    bench.create(KEY, wide)
    sent = milvus.InsertRequest(collection_name="things", num_rows=3000)
    bench.add_column(sent, "id", DataType.INT64, list(range(3000)))
    bench.add_column(sent, "v", DataType.FLOAT_VECTOR, np.ones((3000, 128)))
    assert (await bench.call(insert, sent)).insert_cnt == 3000
    assert await rows(bench) == list(range(3000))
