"""What the filter benchmark evaluates: rows, and each predicate in four languages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

SCHEMA = CollectionSchema(
    name="bench",
    enable_dynamic_field=True,
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="price", data_type=DataType.FLOAT, nullable=True),
        FieldSchema(name="stock", data_type=DataType.INT32),
        FieldSchema(name="small", data_type=DataType.INT8),
        FieldSchema(name="brand", data_type=DataType.VARCHAR),
        FieldSchema(name="title", data_type=DataType.VARCHAR),
        FieldSchema(name="tags", data_type=DataType.ARRAY, element_type=DataType.INT64),
        FieldSchema(name="labels", data_type=DataType.ARRAY, element_type=DataType.VARCHAR),
        FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True),
    ),
)
WORDS = ["red", "green", "blue", "small", "large", "chair", "table", "lamp"]


def make_columns(rows: int) -> dict[str, pa.Array]:
    random = np.random.default_rng(1)
    words = np.array(WORDS)
    picks = words[random.integers(0, len(words), (rows, 3))].tolist()
    metas = [orjson.dumps({"color": row[0], "n": at % 100}) for at, row in enumerate(picks)]
    offsets = np.concatenate(([0], np.cumsum(random.integers(0, 5, rows)))).astype(np.int32)
    labels = words[random.integers(0, len(words), int(offsets[-1]))]
    ends = pa.array(offsets)
    return {
        "id": pa.array(np.arange(rows)),
        "price": pa.array(
            (random.random(rows) * 100).astype(np.float32), mask=random.random(rows) < 0.05
        ),
        "stock": pa.array(random.integers(0, 20, rows).astype(np.int32)),
        "small": pa.array(random.integers(-100, 100, rows).astype(np.int8)),
        "brand": pa.array([f"b{n}" for n in random.integers(0, 20, rows).tolist()]),
        "title": pa.array([" ".join(row) for row in picks]),
        "tags": pa.ListArray.from_arrays(ends, pa.array(random.integers(0, 50, int(offsets[-1])))),
        "labels": pa.ListArray.from_arrays(ends, pa.array(labels.tolist())),
        "$meta": pa.array(metas, pa.binary()),
    }


@dataclass(frozen=True)
class Case:
    """A predicate: ours, by pyarrow.compute, as a Polars expression, in DuckDB's SQL."""

    text: str
    arrow: Callable[[dict[str, pa.Array]], Any] | None
    polars: pl.Expr | None
    sql: str


SPREAD = np.unique(np.random.default_rng(2).integers(0, 1 << 40, 1000))
DENSE = np.arange(0, 20, 2)
NAMES = [f"b{n}" for n in range(0, 40, 3)]
f32 = pa.float32()
col = pl.col
_SQL_NAMES = ", ".join(f"'{name}'" for name in NAMES)
_META = "meta"


def _chain(*parts: Any) -> Any:
    result = parts[0]
    for part in parts[1:]:
        result = pc.and_kleene(result, part)
    return result


CASES = [
    Case(
        "id >= 1000",
        lambda c: pc.greater_equal(c["id"], 1000),
        col("id") >= 1000,
        "id >= 1000",
    ),
    Case(
        "price < 50",
        lambda c: pc.less(c["price"], pa.scalar(50, f32)),
        col("price") < 50,
        "price < 50",
    ),
    Case(
        "small == 7",
        lambda c: pc.equal(c["small"], pa.scalar(7, pa.int8())),
        col("small") == 7,
        "small = 7",
    ),
    Case(
        "stock != 3",
        lambda c: pc.not_equal(c["stock"], pa.scalar(3, pa.int32())),
        col("stock") != 3,
        "stock <> 3",
    ),
    Case(
        "10 < price < 60",
        lambda c: pc.and_(
            pc.greater(c["price"], pa.scalar(10, f32)), pc.less(c["price"], pa.scalar(60, f32))
        ),
        (col("price") > 10) & (col("price") < 60),
        "price > 10 and price < 60",
    ),
    Case(
        f"id in {SPREAD.tolist()}",
        lambda c: pc.is_in(c["id"], value_set=pa.array(SPREAD)),
        col("id").is_in(pl.Series(SPREAD).implode()),
        f"id in ({', '.join(map(str, SPREAD.tolist()))})",
    ),
    Case(
        f"stock in {DENSE.tolist()}",
        lambda c: pc.is_in(c["stock"], value_set=pa.array(DENSE, pa.int32())),
        col("stock").is_in(pl.Series(DENSE, dtype=pl.Int32).implode()),
        f"stock in ({', '.join(map(str, DENSE.tolist()))})",
    ),
    Case(
        "stock in [3, 17]",
        lambda c: pc.is_in(c["stock"], value_set=pa.array([3, 17], pa.int32())),
        col("stock").is_in(pl.Series([3, 17], dtype=pl.Int32).implode()),
        "stock in (3, 17)",
    ),
    Case(
        'brand == "b1"',
        lambda c: pc.equal(c["brand"], "b1"),
        col("brand") == "b1",
        "brand = 'b1'",
    ),
    Case(
        'brand >= "b15"',
        lambda c: pc.greater_equal(c["brand"], "b15"),
        col("brand") >= "b15",
        "brand >= 'b15'",
    ),
    Case(
        f"brand in {NAMES}",
        lambda c: pc.is_in(c["brand"], value_set=pa.array(NAMES)),
        col("brand").is_in(pl.Series(NAMES).implode()),
        f"brand in ({_SQL_NAMES})",
    ),
    Case(
        'title like "red%"',
        lambda c: pc.starts_with(c["title"], "red"),
        col("title").str.starts_with("red"),
        "title like 'red%'",
    ),
    Case(
        'title like "%lamp"',
        lambda c: pc.ends_with(c["title"], "lamp"),
        col("title").str.ends_with("lamp"),
        "title like '%lamp'",
    ),
    Case(
        'title like "%blue%"',
        lambda c: pc.match_substring(c["title"], "blue"),
        col("title").str.contains("blue", literal=True),
        "title like '%blue%'",
    ),
    Case(
        'title like "%blue%lamp"',
        lambda c: pc.match_like(c["title"], "%blue%lamp"),
        col("title").str.contains("^(?s).*blue.*lamp$"),
        "title like '%blue%lamp'",
    ),
    Case(
        'title like "r_d%"',
        lambda c: pc.match_like(c["title"], "r_d%"),
        col("title").str.contains("^(?s)r.d"),
        "title like 'r_d%'",
    ),
    Case(
        "stock + 1 == 2",
        lambda c: pc.equal(pc.add(c["stock"], pa.scalar(1, pa.int32())), pa.scalar(2, pa.int32())),
        col("stock") + 1 == 2,
        "stock + 1 = 2",
    ),
    Case(
        "price * 2 > 50",
        lambda c: pc.greater(pc.multiply(c["price"], pa.scalar(2, f32)), pa.scalar(50, f32)),
        col("price") * 2 > 50,
        "price * 2 > 50",
    ),
    Case(
        "stock % 7 == 3",
        None,
        col("stock") % 7 == 3,
        "stock % 7 = 3",
    ),
    Case(
        "price > 50 and stock < 5",
        lambda c: pc.and_kleene(
            pc.greater(c["price"], pa.scalar(50, f32)),
            pc.less(c["stock"], pa.scalar(5, pa.int32())),
        ),
        (col("price") > 50) & (col("stock") < 5),
        "price > 50 and stock < 5",
    ),
    Case(
        'price > 90 or brand == "b3"',
        lambda c: pc.or_kleene(
            pc.greater(c["price"], pa.scalar(90, f32)), pc.equal(c["brand"], "b3")
        ),
        (col("price") > 90) | (col("brand") == "b3"),
        "price > 90 or brand = 'b3'",
    ),
    Case(
        'not (title like "%red%") and id < 100000',
        lambda c: pc.and_kleene(
            pc.invert(pc.match_substring(c["title"], "red")), pc.less(c["id"], 100000)
        ),
        ~col("title").str.contains("red", literal=True) & (col("id") < 100000),
        "not (title like '%red%') and id < 100000",
    ),
    Case(
        'id >= 1000 and 10 < price < 60 and stock != 0 and brand in ["b1", "b2", "b3"] '
        'and title like "%blue%"',
        lambda c: _chain(
            pc.greater_equal(c["id"], 1000),
            pc.greater(c["price"], pa.scalar(10, f32)),
            pc.less(c["price"], pa.scalar(60, f32)),
            pc.not_equal(c["stock"], pa.scalar(0, pa.int32())),
            pc.is_in(c["brand"], value_set=pa.array(["b1", "b2", "b3"])),
            pc.match_substring(c["title"], "blue"),
        ),
        (col("id") >= 1000)
        & (col("price") > 10)
        & (col("price") < 60)
        & (col("stock") != 0)
        & col("brand").is_in(pl.Series(["b1", "b2", "b3"]).implode())
        & col("title").str.contains("blue", literal=True),
        "id >= 1000 and price > 10 and price < 60 and stock <> 0 "
        "and brand in ('b1', 'b2', 'b3') and title like '%blue%'",
    ),
    Case(
        "array_contains(tags, 7)",
        None,
        col("tags").list.contains(7),
        "list_contains(tags, 7)",
    ),
    Case(
        "array_contains_all(tags, [7, 9])",
        None,
        col("tags").list.contains(7) & col("tags").list.contains(9),
        "list_has_all(tags, [7, 9])",
    ),
    Case(
        'array_contains_any(labels, ["red", "lamp"])',
        None,
        col("labels").list.contains("red") | col("labels").list.contains("lamp"),
        "list_has_any(labels, ['red', 'lamp'])",
    ),
    Case(
        "array_length(tags) > 2",
        lambda c: pc.greater(pc.list_value_length(c["tags"]), 2),
        col("tags").list.len() > 2,
        "len(tags) > 2",
    ),
    Case(
        "tags[1] == 7",
        None,
        col("tags").list.get(1, null_on_oob=True) == 7,
        "tags[2] = 7",
    ),
    Case(
        'color == "red"',
        None,
        col("meta").str.json_path_match("$.color") == "red",
        f"json_extract_string({_META}, 'color') = 'red'",
    ),
    Case(
        "n < 5",
        None,
        col("meta").str.json_path_match("$.n").cast(pl.Int64) < 5,
        f"cast(json_extract({_META}, 'n') as bigint) < 5",
    ),
    Case(
        'color == "red" and n < 5 and stock == 1',
        None,
        (col("stock") == 1)
        & (col("meta").str.json_path_match("$.color") == "red")
        & (col("meta").str.json_path_match("$.n").cast(pl.Int64) < 5),
        f"stock = 1 and json_extract_string({_META}, 'color') = 'red' "
        f"and cast(json_extract({_META}, 'n') as bigint) < 5",
    ),
]

TYPICAL = 'price > 10.5 and brand in ["acme", "globex"] and not (title like "%refurbished%")'
COMPILED = (
    ("pk equality", "id == 17", 2000),
    ("three predicates", TYPICAL, 1000),
    ("JSON paths", 'color == "red" and $meta["n"] < 5 and exists size["x"][0]', 1000),
    ("in, 1,000 integers", f"id in {list(range(0, 3000, 3))}", 50),
    ("in, 1,000 strings", f"brand in {[f'brand {n}' for n in range(1000)]}", 50),
    ("in, 1,000,000 integers", f"id in {list(range(1_000_000))}", 1),
)
