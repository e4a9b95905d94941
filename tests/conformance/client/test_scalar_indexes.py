"""Scalar indexes of every type through the client: filters give the same rows with and without."""

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

DIM, ROWS = 4, 2_000
WORDS = ["red", "green", "蓝色", "small", "large_1", "50%"]
FIELDS = {
    "flag": (DataType.BOOL, {"nullable": True}),
    "price": (DataType.DOUBLE, {"nullable": True}),
    "stock": (DataType.INT32, {}),
    "brand": (DataType.VARCHAR, {"max_length": 64}),
    "title": (DataType.VARCHAR, {"max_length": 64, "nullable": True}),
    "tags": (
        DataType.ARRAY,
        {"element_type": DataType.VARCHAR, "max_capacity": 8, "max_length": 16},
    ),
    "meta": (DataType.JSON, {"nullable": True}),
    "place": (DataType.GEOMETRY, {"nullable": True}),
    "made": (DataType.TIMESTAMPTZ, {}),
}
INDEXES = [
    ("flag", {"index_type": "BITMAP"}),
    ("price", {"index_type": "STL_SORT"}),
    ("stock", {"index_type": "AUTOINDEX"}),
    ("brand", {"index_type": "Trie"}),
    ("title", {"index_type": "NGRAM", "min_gram": 2, "max_gram": 3}),
    ("tags", {"index_type": "INVERTED"}),
    ("meta", {"index_type": "INVERTED", "json_path": 'meta["n"]', "json_cast_type": "double"}),
    ("meta", {"index_type": "INVERTED", "json_path": 'meta["w"]', "json_cast_type": "varchar"}),
    ("meta", {"index_type": "INVERTED", "json_path": "meta", "json_cast_type": "json"}),
    ("color", {"index_type": "INVERTED", "json_path": "color", "json_cast_type": "varchar"}),
    ("place", {"index_type": "RTREE"}),
    ("made", {"index_type": "STL_SORT"}),
]
FILTERS = [
    "flag == true",
    "not (flag == true)",
    "10 < price <= 30",
    "price is null or price > 99",
    "stock in [1, 3] and price < 50",
    'brand like "b1%" and brand != "b17"',
    'title like "%蓝色 sm%"',
    'not (title like "%ge\\\\_1%")',
    'array_contains(tags, "red") and not array_contains_any(tags, ["small"])',
    'meta["n"] < 7',
    'meta["n"] == 5 and meta["w"] == "red" and exists meta["w"]',
    'meta["w"] in ["red", "green"] or meta["n"] == 1',
    'color == "50%"',
    "st_within(place, 'POLYGON((0 0, 9 0, 9 9, 0 9, 0 0))')",
    "st_dwithin(place, 'POINT(5 5)', 100000)",
    'made >= ISO "2025-01-01T00:10:00Z" and stock == 1',
]


def rows() -> list[dict[str, object]]:
    random = np.random.default_rng(5)
    picks = random.integers(0, len(WORDS), (ROWS, 3)).tolist()
    points = random.uniform(-20, 20, (ROWS, 2)).tolist()
    made = []
    for at, (pick, (x, y)) in enumerate(zip(picks, points, strict=True)):
        words = [WORDS[n] for n in pick]
        missing = at % 10 == 0
        made.append(
            {
                "id": at,
                "vector": random.random(DIM).tolist(),
                "flag": None if missing else at % 3 == 0,
                "price": None if missing else at % 1000 / 10,
                "stock": at % 7,
                "brand": f"b{at % 40}",
                "title": None if missing else " ".join(words),
                "tags": words,
                "meta": None if missing else {"n": at % 50, "w": words[0]},
                "place": None if missing else f"POINT ({x} {y})",
                "made": f"2025-01-01T00:{at // 60:02d}:{at % 60:02d}Z",
                "color": words[1],
            }
        )
    return made


def answers(client: MilvusClient, name: str) -> list[list[int]]:
    found = [client.query(name, text, output_fields=["id"]) for text in FILTERS]
    return [sorted(row["id"] for row in one) for one in found]


@pytest.fixture
def filled(client, name):
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    for field, (data_type, options) in FIELDS.items():
        schema.add_field(field, data_type, **options)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    client.insert(name, rows())
    client.flush(name)
    return name


def test_filters_give_the_same_rows_with_indexes_of_each_type(client, filled):
    before = answers(client, filled)
    assert all(before)
    params = client.prepare_index_params()
    for number, (field, given) in enumerate(INDEXES):
        params.add_index(field, index_name=f"i{number}", **given)
    client.create_index(filled, params)
    for number, (_field, given) in enumerate(INDEXES):
        shown = client.describe_index(filled, f"i{number}")
        assert shown["index_type"] == given["index_type"]
        assert (shown["state"], shown["indexed_rows"], shown["total_rows"]) == (
            "Finished",
            ROWS,
            ROWS,
        )
    assert client.describe_index(filled, "i6")["json_path"] == "/n"
    assert answers(client, filled) == before
    client.release_collection(filled)
    client.load_collection(filled)
    assert answers(client, filled) == before
    for number in range(len(INDEXES)):
        client.drop_index(filled, f"i{number}")
    assert client.list_indexes(filled) == ["vector"]
    assert answers(client, filled) == before


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("stock", {"index_type": "RTREE"}, "RTREE index can only be built on geometry field"),
        ("place", {"index_type": "INVERTED"}, "INVERTED are not supported on Geometry field"),
        ("title", {"index_type": "NGRAM"}, "Ngram index must specify both min_gram and max_gram"),
        ("meta", {"index_type": "INVERTED"}, "json index must specify cast type"),
        (
            "meta",
            {"index_type": "INVERTED", "json_path": "x y", "json_cast_type": "double"},
            "cannot parse identifier: x y",
        ),
    ],
)
def test_an_index_that_does_not_fit_is_refused(client, filled, field, given, message):
    params = client.prepare_index_params()
    params.add_index(field, **given)
    with pytest.raises(MilvusException, match=message):
        client.create_index(filled, params)
    assert client.list_indexes(filled) == ["vector"]


def test_a_cast_function_is_about_every_row(client, name):
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("meta", DataType.JSON)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    prices = [7, "7", "8.5", "x", " 7e0 ", True, None, "70"]
    rows = [
        {"id": at, "vector": [0.5] * DIM, "meta": {"price": price}}
        for at, price in enumerate(prices * 2)
    ]
    client.insert(name, rows[:8])
    client.flush(name)
    client.insert(name, rows[8:])

    def found(text):
        return [row["id"] for row in client.query(name, text, output_fields=["id"])]

    assert found('meta["price"] == 7') == [0, 8]
    cast = client.prepare_index_params()
    cast.add_index(
        "meta",
        index_type="INVERTED",
        index_name="price",
        params={
            "json_path": 'meta["price"]',
            "json_cast_type": "double",
            "json_cast_function": "STRING_TO_DOUBLE",
        },
    )
    client.create_index(name, cast)
    assert client.describe_index(name, "price")["json_cast_function"] == "STRING_TO_DOUBLE"
    assert found('meta["price"] == 7') == [0, 1, 4, 8, 9, 12]
    assert found('meta["price"] > 7') == [2, 7, 10, 15]
    assert found('meta["price"] == "7"') == [1, 9]
    client.drop_index(name, "price")
    assert found('meta["price"] == 7') == [0, 8]
