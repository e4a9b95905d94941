"""Files of every format become the rows that an insert would have made of them."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from elanus.errors import ImportFailed
from elanus.model.catalog import CollectionInfo, PartitionInfo
from elanus.model.schema import CollectionSchema, FieldSchema, StructSchema
from elanus.model.types import ConsistencyLevel, DataType
from elanus.rows.routing import bucket_of
from elanus.workers.data.importing import pieces, spill
from elanus.workers.data.importing.process import ProcessImporter
from elanus.workers.data.importing.request import (
    FileGroup,
    Finished,
    ImportRequest,
    NeedIds,
    Progress,
)
from elanus.workers.data.importing.run import run_import

KEY = FieldSchema(name="id", data_type=DataType.INT64, is_primary=True)
VECTOR = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "4"})
META = FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True)
FIRST_ID = 1_000


def field(name: str, data_type: DataType, **options: Any) -> FieldSchema:
    params = {key: str(value) for key, value in options.pop("params", {}).items()}
    return FieldSchema(name=name, data_type=data_type, type_params=params, **options)


def collection(*fields: FieldSchema, shards: int = 1, partitions: int = 1, **options: Any) -> Any:
    structs = options.pop("structs", ())
    dynamic = any(each.is_dynamic for each in fields)
    return CollectionInfo(
        collection_id=1,
        database="default",
        schema=CollectionSchema(
            name="c", fields=fields, structs=structs, enable_dynamic_field=dynamic
        ),
        vchannels=tuple(f"p_{n}_1v{n}" for n in range(shards)),
        partitions=tuple(
            PartitionInfo(partition_id=100 + n, name=f"_default_{n}", created_ts=1)
            for n in range(partitions)
        ),
        consistency_level=ConsistencyLevel.STRONG,
        created_ts=1,
        updated_ts=1,
        properties=options,
    )


class Files:
    """Files in a directory, and importing them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runs = 0

    def put(self, name: str, content: bytes | str) -> str:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def parquet(self, name: str, columns: dict[str, Any]) -> str:
        pq.write_table(pa.table(columns), self.directory / name)
        return name

    def request(self, info: CollectionInfo, *groups: list[str], **changes: Any) -> ImportRequest:
        self.runs += 1
        out = self.directory / f"out{self.runs}"
        out.mkdir()
        values = {
            "collection": info,
            "partition_id": 100 if info.schema.partition_key is None else None,
            "groups": tuple(
                FileGroup(
                    names=tuple(group), paths=tuple(str(self.directory / name) for name in group)
                )
                for group in groups
            ),
            "separator": ",",
            "null_text": "",
            "json_max_length": 65_536,
            "max_segment_bytes": 1 << 30,
            "out_dir": str(out),
        }
        return ImportRequest(**{**values, **changes})

    def run(self, info: CollectionInfo, *groups: list[str], **changes: Any) -> Finished:
        work = run_import(self.request(info, *groups, **changes))
        event = next(work)
        next_id = FIRST_ID
        while not isinstance(event, Finished):
            answer = next_id
            next_id += event.count if isinstance(event, NeedIds) else 0
            event = work.send(answer)
        return event

    def rows(self, info: CollectionInfo, *groups: list[str], **changes: Any) -> pa.Table:
        """All rows, by key."""
        finished = self.run(info, *groups, **changes)
        tables = [opened(each.path) for each in finished.pieces]
        return pa.concat_tables(tables).sort_by(info.schema.primary.name)


def opened(path: str) -> pa.Table:
    with pa.memory_map(path) as file:
        return pa.ipc.open_file(file).read_all()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# --- what there is in rows ----------------------------------------------------------------------

EVERYTHING = collection(
    KEY,
    VECTOR,
    field("half", DataType.FLOAT16_VECTOR, params={"dim": 2}),
    field("brain", DataType.BFLOAT16_VECTOR, params={"dim": 2}),
    field("bits", DataType.BINARY_VECTOR, params={"dim": 16}),
    field("small", DataType.INT8_VECTOR, params={"dim": 2}),
    field("sparse", DataType.SPARSE_FLOAT_VECTOR),
    field("flag", DataType.BOOL),
    field("byte", DataType.INT8, nullable=True),
    field("short", DataType.INT16, default_value=7),
    field("int", DataType.INT32),
    field("float", DataType.FLOAT),
    field("double", DataType.DOUBLE),
    field("text", DataType.VARCHAR, nullable=True, params={"max_length": 20}),
    field("facts", DataType.JSON),
    field("place", DataType.GEOMETRY),
    field("time", DataType.TIMESTAMPTZ),
    field(
        "list",
        DataType.ARRAY,
        element_type=DataType.VARCHAR,
        params={"max_capacity": 3, "max_length": 9},
    ),
    META,
    field(
        "s[n]",
        DataType.ARRAY,
        struct="s",
        element_type=DataType.INT32,
        params={"max_capacity": 3},
    ),
    field(
        "s[e]",
        DataType.ARRAY_OF_VECTOR,
        struct="s",
        element_type=DataType.FLOAT_VECTOR,
        params={"max_capacity": 3, "dim": 2},
    ),
    structs=(StructSchema(name="s"),),
)


def full_rows() -> list[dict[str, Any]]:
    rows = [
        {
            "id": n,
            "v": [n, 0.5, -1.0, 2.0],
            "half": [0.5, float(n)],
            "brain": [1.0, -2.0],
            "bits": [n, 255],
            "small": [-n, 127],
            "sparse": {"3": 0.5, "9": float(n)},
            "flag": n % 2 == 0,
            "byte": -n,
            "short": n + 300,
            "int": n * 70_000,
            "float": n / 2,
            "double": n / 3,
            "text": f'a "{n}", b',
            "facts": {"n": [n, None]},
            "place": f"POINT ({n} 2)",
            "time": "2026-01-01T00:00:00Z",
            "list": ["x"] * (n % 3),
            "s": [{"n": k, "e": [k, 1.0]} for k in range(n % 3)],
            "color": "blue",
        }
        for n in range(5)
    ]
    rows[3]["text"] = rows[3]["byte"] = rows[3]["short"] = None
    return rows


def as_json(files: Files, rows: list[dict[str, Any]]) -> str:
    return files.put("rows.json", json.dumps({"rows": rows}, indent=1))


def as_json_array(files: Files, rows: list[dict[str, Any]]) -> str:
    return files.put("array.json", "\ufeff" + json.dumps(rows))


def as_json_lines(files: Files, rows: list[dict[str, Any]]) -> str:
    return files.put("lines.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")


def as_csv(files: Files, rows: list[dict[str, Any]]) -> str:
    lines = [",".join(rows[0])]
    for row in rows:
        texts = [
            "" if value is None else value if isinstance(value, str) else json.dumps(value)
            for value in row.values()
        ]
        lines.append(",".join('"' + text.replace('"', '""') + '"' for text in texts))
    return files.put("rows.csv", "\n".join(lines))


def as_parquet(files: Files, rows: list[dict[str, Any]]) -> str:
    kinds: dict[str, Any] = {
        "v": pa.list_(pa.float32()),
        "half": pa.list_(pa.uint8()),
        "brain": pa.list_(pa.float32()),
        "bits": pa.list_(pa.uint8()),
        "small": pa.list_(pa.int8(), 2),
        "byte": pa.int8(),
        "s": pa.list_(pa.struct([("n", pa.int32()), ("e", pa.list_(pa.float32()))])),
    }
    columns: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in ("sparse", "facts"):
            values = [json.dumps(value) for value in values]
        if name == "half":
            values = [list(np.array(value, np.float16).tobytes()) for value in values]
        columns[name] = pa.array(values, kinds.get(name))
    return files.parquet("rows.parquet", columns)


WRITERS = [as_json, as_json_array, as_json_lines, as_csv, as_parquet]


@pytest.mark.parametrize("write", WRITERS)
def test_every_type_comes_through_every_format(
    files: Files, write: Callable[[Files, list[dict[str, Any]]], str]
) -> None:
    found = files.rows(EVERYTHING, [write(files, full_rows())])
    assert found.schema == EVERYTHING.schema.arrow
    assert found["id"].to_pylist() == list(range(5))
    assert found["v"].to_pylist() == [[n, 0.5, -1.0, 2.0] for n in range(5)]
    assert found["half"].to_pylist() == [[0.5, n] for n in range(5)]
    assert found["brain"].to_pylist() == [[0x3F80, 0xC000]] * 5
    assert found["bits"].to_pylist() == [[n, 255] for n in range(5)]
    assert found["small"].to_pylist() == [[-n, 127] for n in range(5)]
    assert found["sparse"][2].as_py() == [{"index": 3, "value": 0.5}, {"index": 9, "value": 2.0}]
    assert found["flag"].to_pylist() == [True, False, True, False, True]
    assert found["byte"].to_pylist() == [0, -1, -2, None, -4]
    assert found["short"].to_pylist() == [300, 301, 302, 7, 304]
    assert found["int"].to_pylist() == [n * 70_000 for n in range(5)]
    assert found["double"].to_pylist() == [n / 3 for n in range(5)]
    assert found["text"].to_pylist()[2:] == ['a "2", b', None, 'a "4", b']
    assert json.loads(found["facts"][1].as_py()) == {"n": [1, None]}
    assert found["time"].to_pylist() == [1_767_225_600_000_000] * 5
    assert found["list"].to_pylist() == [[], ["x"], ["x", "x"], [], ["x"]]
    assert found["s[n]"].to_pylist() == [[], [0], [0, 1], [], [0]]
    assert found["s[e]"][2].as_py() == [[0, 1], [1, 1]]
    assert [json.loads(each) for each in found["$meta"].to_pylist()] == [{"color": "blue"}] * 5


def test_numpy_files_are_columns(files: Files) -> None:
    info = collection(
        KEY,
        VECTOR,
        field("half", DataType.FLOAT16_VECTOR, params={"dim": 2}),
        field("text", DataType.VARCHAR, params={"max_length": 9}),
        field("grade", DataType.INT64, default_value=5),
    )
    halves = np.array([[1, 2], [3, 4], [5, 6]], np.float16)
    for name, array in {
        "id": np.array([3, 1, 2]),
        "v": np.arange(12, dtype=np.float64).reshape(3, 4),
        "half": halves.view(np.uint8),
        "text": np.array(["c", "ä", "bb"]),
    }.items():
        np.save(files.directory / f"{name}.npy", array)
    found = files.rows(info, ["id.npy", "v.npy", "half.npy", "text.npy"])
    assert found["text"].to_pylist() == ["ä", "bb", "c"]
    assert found["v"].to_pylist() == [[4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 2, 3]]
    assert found["half"].to_pylist() == [[3, 4], [5, 6], [1, 2]]
    assert found["grade"].to_pylist() == [5, 5, 5]


def test_dynamic_values_come_from_a_column_and_from_unknown_keys(files: Files) -> None:
    info = collection(KEY, META)
    rows = [{"id": 1, "$meta": {"a": 1}, "b": 2}, {"id": 2, "$meta": '{"a": 3}'}, {"id": 3}]
    name = files.put("rows.json", json.dumps(rows))
    found = files.rows(info, [name])["$meta"].to_pylist()
    assert list(map(json.loads, found)) == [{"a": 1, "b": 2}, {"a": 3}, {}]
    columns = {"id": [1, 2], "$meta": ['{"a": 1}', None], "b": [None, 2.5]}
    found = files.rows(info, [files.parquet("rows.parquet", columns)])["$meta"].to_pylist()
    assert list(map(json.loads, found)) == [{"a": 1}, {"b": 2.5}]


def test_separator_and_null_text_of_csv_are_the_users(files: Files) -> None:
    info = collection(KEY, field("n", DataType.INT32, nullable=True))
    name = files.put("rows.csv", "id;n\n1;5\n2;NIL\n")
    assert files.rows(info, [name], separator=";", null_text="NIL")["n"].to_pylist() == [5, None]


# --- where rows go ------------------------------------------------------------------------------


def test_rows_are_where_an_insert_would_put_them_and_sorted(files: Files) -> None:
    tenant = field("tenant", DataType.INT64, is_partition_key=True)
    info = collection(KEY, tenant, shards=2, partitions=3)
    keys = np.random.default_rng(3).permutation(5_000)
    name = files.parquet("rows.parquet", {"id": keys, "tenant": keys % 11})
    finished = files.run(info, [name])
    assert finished.rows == (5_000,)
    seen = 0
    for piece in finished.pieces:
        rows = opened(piece.path)
        seen += rows.num_rows
        assert piece.row_count == rows.num_rows
        found = rows["id"].to_numpy()
        assert (np.diff(found) > 0).all()
        assert set(bucket_of(rows["id"].combine_chunks(), 2)) == {piece.shard}
        buckets = bucket_of(rows["tenant"].combine_chunks(), 3)
        assert set(buckets + 100) == {piece.partition_id}
    assert seen == 5_000
    assert len(finished.pieces) == 6


def test_segments_end_at_their_size(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "MAX_BUFFERED_BYTES", 20_000)
    monkeypatch.setattr(pieces, "BATCH_BYTES", 8_000)
    name = files.parquet("rows.parquet", {"id": range(20_000)})
    finished = files.run(collection(KEY), [name], max_segment_bytes=50_000)
    assert len(finished.pieces) in (3, 4)
    keys = [key for each in finished.pieces for key in opened(each.path)["id"].to_pylist()]
    assert sorted(keys) == list(range(20_000))


def test_keys_are_made_where_the_collection_makes_them(files: Files) -> None:
    made = field("id", DataType.VARCHAR, is_primary=True, auto_id=True, params={"max_length": 30})
    info = collection(made, field("n", DataType.INT64))
    groups = [[files.parquet(f"{n}.parquet", {"n": [n, n + 1]})] for n in (1, 3)]
    found = files.rows(info, *groups)
    assert found["id"].to_pylist() == [str(FIRST_ID + n) for n in range(4)]
    given = files.parquet("given.parquet", {"id": ["a"], "n": [1]})
    with pytest.raises(ImportFailed, match="can not assign primary field data"):
        files.run(info, [given])
    allowed = collection(*info.schema.fields, allow_insert_auto_id="true")
    assert files.rows(allowed, [given])["id"].to_pylist() == ["a"]


# --- what can be wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.json", '{"rows": [{"id": 1, "n": 5}, {"id": "x", "n": 1}]}', ("row 1", "id", "x")),
        ("a.json", '[{"id": 1, "n": 5}, {"id": 2, "n": 400}]', ("row 1", "n", "400")),
        ("a.json", '[{"id": 1, "n": 5}, {"id": 2}]', ("row 1", "no value for the field n")),
        ("a.json", '[{"id": 1, "n": 5, "x": 1}]', ("row 0", "no field x")),
        ("a.json", '[{"id": 1, "n": 5}, 7]', ("row 1 should be an object",)),
        ("a.json", '[{"id": 1, "n": 5}', ("not valid JSON",)),
        ("a.jsonl", '{"id": 1, "n": 5}\n{"id"', ("row 1 is not valid JSON",)),
        ("a.csv", "id,n\n1,2\n3,abc\n", ("row 1", "n", "abc")),
        ("a.csv", "id,n\n1,2\n3\n", ("CSV", "Expected 2 columns")),
        ("a.csv", "id\n1\n", ("row 0", "n")),
        ("a.parquet", "no parquet", ("not a Parquet file",)),
        ("n.npy", "no numpy", ("the field n is not a NumPy file",)),
    ],
)
def test_what_is_wrong_names_file_row_and_field(
    files: Files, name: str, content: str, parts: tuple[str, ...]
) -> None:
    files.put(name, content)
    with pytest.raises(ImportFailed) as caught:
        files.run(collection(KEY, field("n", DataType.INT8)), [name])
    assert all(part in str(caught.value) for part in (name, *parts)), str(caught.value)


def test_a_vector_of_another_length_is_found_in_the_middle_of_a_file(files: Files) -> None:
    rows = [{"id": n, "v": [0.0] * (3 if n == 777 else 4)} for n in range(1_000)]
    for write in (as_json, as_parquet):
        name = write(files, rows)
        with pytest.raises(ImportFailed, match=f"file {name}, row 777: .*v"):
            files.run(collection(KEY, VECTOR), [name])


def test_numpy_files_must_have_as_many_rows_as_each_other(files: Files) -> None:
    np.save(files.directory / "id.npy", np.arange(3))
    np.save(files.directory / "n.npy", np.arange(4))
    with pytest.raises(ImportFailed, match="id: 3, n: 4"):
        files.run(collection(KEY, field("n", DataType.INT64)), ["id.npy", "n.npy"])


# --- the process that does it -------------------------------------------------------------------


async def test_a_process_of_its_own_does_the_same(files: Files) -> None:
    made = field("id", DataType.INT64, is_primary=True, auto_id=True)
    info = collection(made, field("n", DataType.INT64))
    request = files.request(info, [files.parquet("rows.parquet", {"n": range(100)})])
    told: list[int] = []

    async def allocate_ids(count: int) -> int:
        assert count == 100
        return FIRST_ID

    finished = await ProcessImporter().run(request, allocate_ids, told.append)
    (piece,) = finished.pieces
    assert opened(piece.path)["id"].to_pylist() == list(range(FIRST_ID, FIRST_ID + 100))
    assert told == [100]
    bad = files.request(info, [files.put("bad.json", "[1]")])
    with pytest.raises(ImportFailed, match=r"bad\.json.*row 0 should be an object"):
        await ProcessImporter().run(bad, allocate_ids, told.append)


async def test_a_process_ends_with_what_asked_for_it(files: Files) -> None:
    made = field("id", DataType.INT64, is_primary=True, auto_id=True)
    info = collection(made, field("n", DataType.INT64))
    request = files.request(info, [files.parquet("rows.parquet", {"n": range(100)})])
    asked = asyncio.Event()

    async def never(count: int) -> int:
        asked.set()
        return await asyncio.Future()

    running = asyncio.ensure_future(ProcessImporter().run(request, never, lambda rows: None))
    await asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_it_says_how_far_it_is(files: Files) -> None:
    info = collection(KEY)
    groups = [[files.parquet(f"{n}.parquet", {"id": range(n)})] for n in (10, 20)]
    work = run_import(files.request(info, *groups))
    events = [event.rows for event in work if isinstance(event, Progress)]
    assert events == [10, 30]
