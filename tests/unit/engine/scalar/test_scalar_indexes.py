"""Scalar indexes, each through a file, give the rows of a scan of generated columns."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.oracle import reference
from tests.oracle.profiles import examples
from tests.oracle.strategies import SCHEMA, TYPES, cases, filters, leaves, names_in
from tests.oracle.test_filters import columns_of, texts
from tests.unit.engine.filter.test_geometry import RELATIONS, shapes
from tests.unit.engine.filter.test_geometry import SCHEMA as PLACES

from elanus.engine.filter import compile_filter, evaluate
from elanus.engine.filter.expression import Leaf
from elanus.engine.filter.indexes import Answer, ScalarIndex
from elanus.engine.index.scalar.files import build_scalar_index, open_scalar_index
from elanus.errors import CorruptData
from elanus.model.geometry import wkb_of
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

RELAXED = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SORTED, BITMAP = ("STL_SORT", {}), ("BITMAP", {})
NGRAM = ("NGRAM", {"min_gram": "1", "max_gram": "2"})
Wanted = tuple[str, dict[str, str]]


class Preferred:
    """An index that is always cheaper than a scan; counts its answers."""

    def __init__(self, index: ScalarIndex) -> None:
        self._index = index
        self.row_count, self.size_bytes = index.row_count, 0
        self.answered = 0

    def answer(self, leaf: Leaf) -> Answer | None:
        found = self._index.answer(leaf)
        if found is None:
            return None

        def ask() -> Any:
            self.answered += 1
            return found.ask()

        return dataclasses.replace(found, cost_ns=-1.0, ask=ask)


def built(column: pa.Array, wanted: Sequence[Wanted]) -> tuple[Preferred, ...]:
    """The indexes over a column, each written and opened."""
    opened = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for number, (index_type, params) in enumerate(wanted):
            path = f"{folder}/{number}"
            assert build_scalar_index(index_type, params, column, path) == len(column)
            opened.append(Preferred(open_scalar_index(path, len(column))))
    return tuple(opened)


def on_paths(*casts: str) -> list[Wanted]:
    paths = ("/a", "/b", "/a/b", "/k", "/k/a", "/0")
    return [
        ("INVERTED", {"json_path": path, "json_cast_type": cast})
        for path in paths
        for cast in casts
    ]


def variants(name: str) -> list[list[Wanted]]:
    """Sets of indexes to put on a column of the generated rows."""
    kind = TYPES[name][0]
    if kind == "json":
        return [
            on_paths("DOUBLE", "VARCHAR", "BOOL"),
            on_paths("ARRAY_DOUBLE", "ARRAY_VARCHAR", "ARRAY_BOOL"),
            [("NGRAM", {**params, **NGRAM[1]}) for _, params in on_paths("VARCHAR")],
            [("INVERTED", {"json_path": "", "json_cast_type": "JSON"})],
        ]
    if kind in ("string", "text"):
        return [[SORTED], [BITMAP], [NGRAM]]
    if kind == "geometry":
        return [[("RTREE", {})]]
    return [[SORTED]] if kind.startswith("[]") else [[SORTED], [BITMAP]]


def check(tree: tuple, table: list[dict[str, Any]], choice: int) -> None:
    plan = compile_filter(reference.render(tree), SCHEMA)
    assert plan is not None
    columns = columns_of(table)
    indexes = {}
    for name in names_in(tree):
        sets = variants(name)
        indexes[name] = built(columns[name], sets[choice % len(sets)])
    expected = evaluate(plan, columns.__getitem__, len(table), texts=texts)
    found = evaluate(plan, columns.__getitem__, len(table), texts=texts, indexes=indexes)
    assert found.tolist() == expected.tolist(), reference.render(tree)
    candidates = np.array([bool(at % 3) for at in range(len(table))], np.bool_)
    narrowed = evaluate(plan, columns.__getitem__, len(table), candidates, texts, indexes)
    assert narrowed.tolist() == (expected & candidates).tolist(), reference.render(tree)


@examples(share=0.3)
@given(cases(leaves() | leaves().map(lambda leaf: ("not", leaf))), st.integers(0, 3))
def test_every_predicate_gives_the_rows_of_a_scan(
    case: tuple[tuple, list[dict[str, Any]]], choice: int
) -> None:
    check(*case, choice)


@examples(share=0.15)
@given(cases(filters), st.integers(0, 3))
def test_every_filter_gives_the_rows_of_a_scan(
    case: tuple[tuple, list[dict[str, Any]]], choice: int
) -> None:
    check(*case, choice)


places = st.lists(st.none() | shapes | st.just(shapely.Point()), min_size=1, max_size=20)


@settings(RELAXED, max_examples=120)
@given(places, shapes, st.sampled_from([*RELATIONS, "dwithin"]), st.booleans(), st.floats(0, 9e6))
def test_relations_of_shapes_give_the_rows_of_a_scan(
    rows: list[shapely.Geometry | None],
    shape: shapely.Geometry,
    relation: str,
    negated: bool,
    distance_m: float,
) -> None:
    text = f"st_{relation}(g, '{shape.wkt}')"
    if relation == "dwithin":
        text = f"st_dwithin(g, '{shape.centroid.wkt}', {distance_m!r})"
    plan = compile_filter(f"not {text}" if negated else text, PLACES)
    assert plan is not None
    column = pa.array([None if row is None else wkb_of(row.wkt) for row in rows], pa.binary())
    (index,) = built(column, [("RTREE", {})])
    expected = evaluate(plan, lambda _: column, len(rows))
    found = evaluate(plan, lambda _: column, len(rows), indexes={"g": [index]})
    assert found.tolist() == expected.tolist(), text
    assert index.answered == 1


# --- larger columns: several pieces, nodes and words ----------------------------------------------

ROWS = 20_000
TITLES = CollectionSchema(
    name="titles",
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="x", data_type=DataType.DOUBLE, nullable=True),
        FieldSchema(name="n", data_type=DataType.INT32),
        FieldSchema(name="s", data_type=DataType.VARCHAR, nullable=True),
        FieldSchema(name="a", data_type=DataType.ARRAY, element_type=DataType.VARCHAR),
        FieldSchema(name="j", data_type=DataType.JSON, nullable=True),
        FieldSchema(name="g", data_type=DataType.GEOMETRY, nullable=True),
    ),
)


@pytest.fixture(scope="module")
def columns() -> dict[str, pa.Array]:
    random = np.random.default_rng(3)
    words = np.array(["rot", "grün", "蓝色", "tisch", "lampe", "stuhl_1", "50%", ""])
    texts = [" ".join(row) for row in words[random.integers(0, len(words), (ROWS, 3))].tolist()]
    numbers = random.integers(0, 1000, ROWS)
    nulls = random.random(ROWS) < 0.1
    reals = random.standard_normal(ROWS)
    reals[::100] = np.nan
    points = random.uniform((-180, -90), (180, 90), (ROWS, 2))
    wkbs = shapely.to_wkb(shapely.points(points), byte_order=1)
    documents = [f'{{"n":{n},"t":"{t}"}}'.encode() for n, t in zip(numbers, texts, strict=True)]
    return {
        "id": pa.array(np.arange(ROWS)),
        "x": pa.array(reals, mask=nulls),
        "n": pa.array(numbers.astype(np.int32)),
        "s": pa.array(texts, mask=nulls),
        "a": pa.array([text.split() for text in texts], pa.list_(pa.string())),
        "j": pa.array(documents, pa.binary(), mask=nulls),
        "g": pa.array(wkbs, pa.binary(), mask=nulls),
    }


LARGE: list[tuple[str, Wanted, list[str]]] = [
    ("id", SORTED, ["id in {ids}", "id not in {ids}", "id > 100", "100 < id <= 19000", "id != 7"]),
    ("x", SORTED, ["x < 0.5", "not (x < 0.5)", "x != 0.25", "x + 1.0 > 1.5", "x > -9.0"]),
    ("n", BITMAP, ["n == 5", "n >= 500", "n % 7 == 3", "not (n in [1, 2, 3])"]),
    ("s", ("Trie", {}), ['s like "rot%"', 's == "rot 50% 50%"', 's > "l"', 's like "%u%_1"']),
    ("s", BITMAP, ['s in ["rot rot rot", "x"]', 's not in ["rot rot rot", "x"]']),
    (
        "s",
        ("NGRAM", {"min_gram": "2", "max_gram": "3"}),
        [
            's like "%蓝色 tisch%"',
            's like "%grün%lampe"',
            'not (s like "%50\\\\% ro_%")',
            's like "rot %"',
            's like "%xyz%"',
        ],
    ),
    (
        "a",
        SORTED,
        [
            'array_contains(a, "rot")',
            'array_contains_all(a, ["rot", "蓝色"])',
            'not array_contains_any(a, ["rot", "grün"])',
        ],
    ),
    (
        "j",
        ("INVERTED", {"json_path": "/n", "json_cast_type": "DOUBLE"}),
        ['j["n"] < 5', 'j["n"] == 17 and j["t"] != "x"', 'not (j["n"] in [1, 2.0])'],
    ),
    (
        "j",
        ("INVERTED", {"json_path": "", "json_cast_type": "JSON"}),
        ['j["n"] < 5', 'not (j["t"] == "rot rot rot")', 'j["t"] =~ "^rot (rot|50%)"'],
    ),
    ("s", ("Trie", {}), ['s =~ "^rot.*rot$"', 's !~ "rot"']),
    (
        "j",
        ("NGRAM", {"json_path": "/t", "json_cast_type": "VARCHAR", **NGRAM[1]}),
        ['j["t"] like "%50\\\\%%lampe%"', 'not (j["t"] like "%rot%")'],
    ),
    (
        "g",
        ("RTREE", {}),
        [
            "st_within(g, 'POLYGON((0 0, 9 0, 9 9, 0 9, 0 0))')",
            "not st_intersects(g, 'POLYGON((-99 -80, 90 0, 90 90, 0 90, -99 -80))')",
            "st_dwithin(g, 'POINT(179.5 0)', 300000)",
            "st_dwithin(g, 'POINT(10 88)', 900000)",
            "st_dwithin(g, 'POINT(10 50)', 20000)",
        ],
    ),
]


@pytest.mark.parametrize(
    ("name", "wanted", "filters_"), LARGE, ids=[f"{name}-{wanted[0]}" for name, wanted, _ in LARGE]
)
def test_large_columns_give_the_rows_of_a_scan(
    columns: dict[str, pa.Array], name: str, wanted: Wanted, filters_: list[str]
) -> None:
    (index,) = built(columns[name], [wanted])
    for wording in filters_:
        text = wording.replace("{ids}", str(list(range(-5, ROWS + 5, 9))))
        plan = compile_filter(text, TITLES)
        assert plan is not None
        before = index.answered
        found = evaluate(plan, columns.__getitem__, ROWS, indexes={name: [index]})
        assert index.answered == before + 1, text
        expected = evaluate(plan, columns.__getitem__, ROWS)
        assert found.tolist() == expected.tolist(), text


def test_an_index_is_asked_only_where_it_is_cheaper(columns: dict[str, pa.Array]) -> None:
    asked: list[str] = []

    class Watched(Preferred):
        def answer(self, leaf: Leaf) -> Answer | None:
            found = self._index.answer(leaf)
            if found is None:
                return None

            def ask() -> Any:
                asked.append(leaf.key)
                return found.ask()

            return dataclasses.replace(found, ask=ask)

    names = ("n", "s")
    indexes = {name: [Watched(built(columns[name], [SORTED])[0]._index)] for name in names}
    plan = compile_filter('s like "%rot%" and s == "50% 50% 50%"', TITLES)
    assert plan is not None
    evaluate(plan, columns.__getitem__, ROWS, indexes=indexes)
    # The few rows of the equality are searched themselves for the word.
    assert len(asked) == 1
    assert "50% 50% 50%" in asked[0]
    plan = compile_filter("n > 0", TITLES)
    assert plan is not None
    evaluate(plan, columns.__getitem__, 100, indexes={"n": [_costly(indexes["n"][0])]})
    assert len(asked) == 1


def _costly(index: Any) -> Any:
    class Costly:
        row_count, size_bytes = 100, 0

        def answer(self, leaf: Leaf) -> Answer | None:
            found = index.answer(leaf)
            return found and dataclasses.replace(found, cost_ns=1e12)

    return Costly()


def test_integers_that_no_double_holds_are_left_to_the_scan() -> None:
    column = pa.array([b'{"a":9007199254740993}', b'{"a":9007199254740992}'], pa.binary())
    schema = CollectionSchema(
        name="big",
        fields=(
            FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
            FieldSchema(name="j", data_type=DataType.JSON),
        ),
    )
    (index,) = built(column, [("INVERTED", {"json_path": "/a", "json_cast_type": "DOUBLE"})])
    plan = compile_filter('j["a"] == 9007199254740993', schema)
    assert plan is not None
    found = evaluate(plan, lambda _: column, 2, indexes={"j": [index]})
    assert (found.tolist(), index.answered) == ([True, False], 0)


def test_a_file_that_is_not_the_segments_is_refused_by_name(tmp_path: Path) -> None:
    path = str(tmp_path / "index")
    build_scalar_index("INVERTED", {}, pa.array(["b", "a", None]), path)
    with pytest.raises(CorruptData, match=f"{path} has 3 rows, the segment has 4"):
        open_scalar_index(path, 4)
    whole = Path(path).read_bytes()
    for size in range(0, len(whole), 64):
        Path(path).write_bytes(whole[:size])
        with pytest.raises(CorruptData, match=path):
            open_scalar_index(path, 3)
