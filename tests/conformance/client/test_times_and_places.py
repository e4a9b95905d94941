"""Timestamptz and Geometry through the client: schema, rows, defaults, nulls, filters, output."""

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

DIM = 4


def schema_of(fields):
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    for field_name, data_type, options in fields:
        schema.add_field(field_name, data_type, **options)
    return schema


def create(client, name, fields, **options):
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(
        name, schema=schema_of(fields), index_params=index, consistency_level="Strong", **options
    )


def rows_of(name, values):
    vector = np.ones(DIM, np.float32).tolist()
    return [
        {"id": i, "vector": vector} | ({} if value is ... else {name: value})
        for i, value in enumerate(values)
    ]


def column(client, name, field, **options):
    found = client.query(name, "id >= 0", output_fields=[field], **options)
    return [row[field] for row in sorted(found, key=lambda row: row["id"])]


def ids(client, name, expression, **options):
    found = client.query(name, expression, output_fields=["id"], **options)
    return sorted(row["id"] for row in found)


TIMES = ["2025-01-01T00:00:00Z", "2025-01-01 00:00:00+08:00", "2025-06-01T12:00:00.25", None]


@pytest.mark.parametrize("flushed", [False, True])
def test_timestamps_come_back_in_the_wanted_zone(client, name, flushed):
    create(
        client,
        name,
        [("t", DataType.TIMESTAMPTZ, {"nullable": True})],
        properties={"timezone": "Asia/Shanghai"},
    )
    client.insert(name, rows_of("t", TIMES))
    if flushed:
        client.flush(name)
    assert column(client, name, "t") == [
        "2025-01-01T08:00:00+08:00",
        "2025-01-01T00:00:00+08:00",
        "2025-06-01T12:00:00.25+08:00",
        None,
    ]
    assert column(client, name, "t", timezone="America/New_York")[0] == "2024-12-31T19:00:00-05:00"
    assert ids(client, name, 't < iso "2025-01-01T00:00:00Z"') == [1]
    assert ids(client, name, 't == iso "2025-01-01 08:00:00"') == [0]
    assert ids(client, name, 't == iso "2025-01-01 00:00:00"', timezone="UTC") == [0]
    assert ids(client, name, 't + interval "P1D" > iso "2025-01-02T00:00:00Z"') == [2]
    assert ids(client, name, "t is null") == [3]
    [hits] = client.search(
        name, [[1.0] * DIM], limit=4, filter="t is not null", output_fields=["t"]
    )
    assert {hit["id"]: hit["entity"]["t"] for hit in hits}[2] == "2025-06-01T12:00:00.25+08:00"


def test_time_fields_are_numbers(client, name):
    create(client, name, [("t", DataType.TIMESTAMPTZ, {})])
    client.insert(name, rows_of("t", TIMES[:2]))
    shown = column(client, name, "t", time_fields="year, month,day,hour")
    assert [list(parts) for parts in shown] == [[2025, 1, 1, 0], [2024, 12, 31, 16]]


def test_wrong_timestamps_are_refused(client, name):
    create(client, name, [("t", DataType.TIMESTAMPTZ, {})])
    for value, reason in (
        ("tomorrow", "got invalid timestamptz string 'tomorrow': invalid timestamp string"),
        ("2025-01-01T00:00:00+15:00", "is out of the valid range"),
    ):
        with pytest.raises(MilvusException, match=reason):
            client.insert(name, rows_of("t", [value]))
    with pytest.raises(MilvusException, match="unknown or invalid IANA Time Zone ID: Nowhere"):
        client.query(name, "id >= 0", timezone="Nowhere")
    with pytest.raises(MilvusException, match="Does not match any known format"):
        client.query(name, 't > iso "x"')


def test_a_default_timestamp(client, name):
    create(
        client,
        name,
        [("t", DataType.TIMESTAMPTZ, {"default_value": "2025-01-01T00:00:00"})],
        properties={"timezone": "Asia/Shanghai"},
    )
    client.insert(name, rows_of("t", [..., "2025-02-01T00:00:00Z"]))
    assert column(client, name, "t", timezone="UTC") == [
        "2024-12-31T16:00:00Z",
        "2025-02-01T00:00:00Z",
    ]
    field = client.describe_collection(name)["fields"][2]
    assert "2025-01-01T00:00:00+08:00" in str(field["default_value"])


PLACES = ["POINT (1 2)", "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0))", "POINT (30.123 -10.456)", None]


@pytest.mark.parametrize("flushed", [False, True])
def test_geometries_come_back_and_are_found(client, name, flushed):
    create(client, name, [("g", DataType.GEOMETRY, {"nullable": True})])
    client.insert(name, rows_of("g", PLACES))
    if flushed:
        client.flush(name)
    assert column(client, name, "g") == PLACES
    box = "POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0))"
    assert ids(client, name, f"st_within(g, '{box}')") == [0, 1]
    assert ids(client, name, "ST_CONTAINS(g, 'POINT (2 2)')") == [1]
    assert ids(client, name, f"not st_intersects(g, '{box}')") == [2]
    assert ids(client, name, "st_dwithin(g, 'POINT (1 2)', 1000) and id < 1") == [0]
    assert ids(client, name, "g is null") == [3]
    [hits] = client.search(name, [[1.0] * DIM], limit=4, filter=f"st_within(g, '{box}')")
    assert {hit["id"] for hit in hits} == {0, 1}


def test_wrong_geometries_are_refused(client, name):
    create(client, name, [("g", DataType.GEOMETRY, {})])
    with pytest.raises(MilvusException, match="invalid geometry text of field g, row number: 1"):
        client.insert(name, rows_of("g", ["POINT (1 1)", "POINT (1"]))


def test_a_default_geometry_and_fields_that_are_added(client, name):
    create(client, name, [("g", DataType.GEOMETRY, {"default_value": "POINT (0 0)"})])
    client.insert(name, rows_of("g", [..., "POINT (1 1)"]))
    assert column(client, name, "g") == ["POINT (0 0)", "POINT (1 1)"]
    client.add_collection_field(name, "h", DataType.GEOMETRY, nullable=True)
    client.add_collection_field(name, "t", DataType.TIMESTAMPTZ, nullable=True)
    assert column(client, name, "h") == [None, None]
    assert ids(client, name, "h is null and t is null") == [0, 1]


def test_a_sample_is_random_and_of_the_right_size(client, name):
    create(client, name, [("n", DataType.INT64, {})])
    client.insert(name, rows_of("n", list(range(400))))
    samples = [ids(client, name, "n < 200 and random_sample(0.1)") for _ in range(5)]
    assert all(len(found) == 20 and max(found) < 200 for found in samples)
    assert len({tuple(found) for found in samples}) > 1
    assert len(ids(client, name, "random_sample(0.5)")) == 200
