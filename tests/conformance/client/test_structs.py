"""Arrays of structs: written, read back, found by embedding lists, filtered, flushed, compacted."""

import time

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.embedding_list import EmbeddingList

DIM = 8
ROWS = 40
RANDOM = np.random.default_rng(21)
LENGTHS = [int(n) for n in RANDOM.integers(0, 5, ROWS)]
VECTORS = [RANDOM.normal(size=(n, DIM)).astype(np.float32) for n in LENGTHS]
BETWEEN = {
    "COSINE": lambda q, x: q @ x / np.linalg.norm(q) / np.linalg.norm(x),
    "IP": lambda q, x: q @ x,
    "L2": lambda q, x: ((q - x) ** 2).sum(),
}


def clips(i):
    return [
        {"word": f"w{i}_{j}", "second": i * 10 + j, "emb": vector.tolist()}
        for j, vector in enumerate(VECTORS[i])
    ]


def row(i):
    return {"id": i, "color": "red" if i % 2 else "blue", "clips": clips(i)}


def struct_schema(client, **vector):
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("color", DataType.VARCHAR, max_length=10)
    struct = client.create_struct_field_schema()
    struct.add_field("word", DataType.VARCHAR, max_length=20)
    struct.add_field("second", DataType.INT64)
    struct.add_field("emb", DataType.FLOAT_VECTOR, **{"dim": DIM, **vector})
    schema.add_field(
        "clips",
        datatype=DataType.ARRAY,
        element_type=DataType.STRUCT,
        struct_schema=struct,
        max_capacity=6,
    )
    return schema


def create(client, name, metric="MAX_SIM_COSINE", index_type="HNSW"):
    index = client.prepare_index_params()
    index.add_index("clips[emb]", index_type=index_type, metric_type=metric)
    client.create_collection(
        name, schema=struct_schema(client), index_params=index, consistency_level="Strong"
    )


@pytest.fixture
def filled(client, name):
    create(client, name)
    client.insert(name, [row(i) for i in range(ROWS)])
    return name


def embedding_list(vectors):
    embeddings = EmbeddingList()
    for vector in vectors:
        embeddings.add(vector)
    return embeddings


def scores(query, metric="COSINE", rows=range(ROWS)):
    """The score of every row that has vectors, by the definition."""
    between, best = BETWEEN[metric], min if metric == "L2" else max
    return {
        i: sum(best(between(q, x) for x in VECTORS[i]) for q in query) for i in rows if LENGTHS[i]
    }


def expect(hits, found, larger=True):
    best = sorted(found.values(), reverse=larger)[: len(hits)]
    assert [hit["distance"] for hit in hits] == pytest.approx(best, rel=1e-3)
    for hit in hits:
        assert hit["distance"] == pytest.approx(found[hit["id"]], rel=1e-3)


def plain(given):
    """Vectors as lists of float32."""
    return [{**clip, "emb": np.float32(clip["emb"]).tolist()} for clip in given]


def flushed(client, name):
    """Sealed and loaded from its files."""
    client.flush(name)
    client.release_collection(name)
    client.load_collection(name)


def test_the_description_tells_of_structs(client, name):
    create(client, name)
    described = client.describe_collection(name)
    [struct] = [field for field in described["fields"] if field["name"] == "clips"]
    assert (struct["type"], struct["element_type"]) == (DataType.ARRAY, DataType.STRUCT)
    assert struct["params"]["max_capacity"] == 6
    parts = {part["name"]: part for part in struct["struct_fields"]}
    assert {name: part["type"] for name, part in parts.items()} == {
        "word": DataType.VARCHAR,
        "second": DataType.INT64,
        "emb": DataType.FLOAT_VECTOR,
    }
    assert parts["emb"]["params"]["dim"] == DIM
    assert [field["name"] for field in described["fields"]] == ["id", "color", "clips"]
    assert client.describe_index(name, "clips[emb]")["metric_type"] == "MAX_SIM_COSINE"
    create(client, name)  # the same again


@pytest.mark.parametrize("sealed", [False, True])
def test_rows_come_back_as_they_were_written(client, filled, sealed):
    if sealed:
        flushed(client, filled)
    found = client.query(filled, filter="id >= 0", output_fields=["*"])
    assert [each["id"] for each in found] == list(range(ROWS))
    for each in found:
        assert plain(each["clips"]) == plain(clips(each["id"]))
    [some] = client.get(filled, [3], output_fields=["clips[second]"])
    assert some["clips"] == [{"second": clip["second"]} for clip in clips(3)]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
def test_embedding_lists_find_the_rows_most_alike(client, name, metric, sealed):
    create(client, name, f"MAX_SIM_{metric}", "HNSW" if metric == "COSINE" else "FLAT")
    client.insert(name, [row(i) for i in range(ROWS)])
    if sealed:
        flushed(client, name)
    queries = [RANDOM.normal(size=(n, DIM)).astype(np.float32) for n in (3, 1)]
    found = client.search(
        name,
        [embedding_list(query) for query in queries],
        anns_field="clips[emb]",
        limit=5,
        output_fields=["color", "clips"],
    )
    for query, hits in zip(queries, found, strict=True):
        assert len(hits) == 5
        expect(hits, scores(query, metric), larger=metric != "L2")
        for hit in hits:
            assert plain(hit["entity"]["clips"]) == plain(clips(hit["id"]))
    some = client.search(
        name,
        [embedding_list(queries[0])],
        anns_field="clips[emb]",
        limit=5,
        filter="color == 'red'",
        search_params={"metric_type": f"MAX_SIM_{metric}"},
    )
    expect(some[0], scores(queries[0], metric, range(1, ROWS, 2)), larger=metric != "L2")


def test_a_built_index_finds_the_rows_most_alike(client, name, load_indexed):
    lengths = RANDOM.integers(0, 4, 1_500)
    stored = [RANDOM.normal(size=(n, DIM)).astype(np.float32) for n in lengths]
    create(client, name, "MAX_SIM_IP", "HNSW")
    client.insert(
        name,
        [
            {
                "id": i,
                "color": "red",
                "clips": [{"word": "w", "second": 1, "emb": vector} for vector in vectors],
            }
            for i, vectors in enumerate(stored)
        ],
    )
    load_indexed("clips[emb]", 1_500)
    for size in (1, 6):
        query = RANDOM.normal(size=(size, DIM)).astype(np.float32)
        hits = client.search(name, [embedding_list(query)], anns_field="clips[emb]", limit=10)[0]
        best = {
            i: float((query @ vectors.T).max(axis=1).sum())
            for i, vectors in enumerate(stored)
            if len(vectors)
        }
        nearest = sorted(best, key=best.__getitem__, reverse=True)[:10]
        assert len(set(nearest) & {hit["id"] for hit in hits}) >= 9
        for hit in hits:
            assert hit["distance"] == pytest.approx(best[hit["id"]], rel=1e-3)


def test_writes_replace_and_remove_whole_structs(client, filled):
    client.upsert(filled, [{"id": 1, "color": "green", "clips": clips(2)}])
    client.delete(filled, filter="id in [4, 5]")
    flushed(client, filled)
    client.upsert(filled, [{"id": 7, "color": "green", "clips": []}])
    found = {each["id"]: each for each in client.query(filled, "id < 10", output_fields=["clips"])}
    assert sorted(found) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert plain(found[1]["clips"]) == plain(clips(2))
    assert found[7]["clips"] == []
    query = embedding_list(VECTORS[next(i for i in range(10, ROWS) if LENGTHS[i])])
    hits = client.search(filled, [query], anns_field="clips[emb]", limit=ROWS)[0]
    with_vectors = {i for i in range(ROWS) if LENGTHS[i]} - {4, 5, 7} | {1}
    assert {hit["id"] for hit in hits} == with_vectors - (set() if LENGTHS[2] else {1})


def test_a_partial_update_leaves_other_columns_alone(client, filled):
    client.upsert(filled, [{"id": 2, "color": "green"}], partial_update=True)
    client.upsert(filled, [{"id": 3, "clips": clips(6)}], partial_update=True)
    found = client.query(filled, filter="id in [2, 3]", output_fields=["color", "clips"])
    assert [each["color"] for each in found] == ["green", "red"]
    assert [plain(each["clips"]) for each in found] == [plain(clips(2)), plain(clips(6))]


def test_compaction_keeps_structs(client, name):
    create(client, name)
    for start in range(0, ROWS, 10):
        client.insert(name, [row(i) for i in range(start, start + 10)])
        client.flush(name)
    client.delete(name, filter="id < 3")
    job = client.compact(name)
    deadline = time.monotonic() + 240
    while client.get_compaction_state(job) != "Completed":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found = client.query(name, filter="id >= 0", output_fields=["clips"])
    assert [each["id"] for each in found] == list(range(3, ROWS))
    assert all(plain(each["clips"]) == plain(clips(each["id"])) for each in found)


def test_fields_of_structs_in_filters(client, filled):
    expect_filters(client, filled)
    index = client.prepare_index_params()
    index.add_index("clips[word]", index_type="INVERTED")
    index.add_index("clips[second]", index_type="BITMAP")
    client.create_index(filled, index)
    flushed(client, filled)
    expect_filters(client, filled)


def expect_filters(client, filled):
    def ids(text):
        return [each["id"] for each in client.query(filled, filter=text)]

    assert ids("array_contains(clips[second], 31)") == [3] * (LENGTHS[3] > 1)
    assert ids("array_length(clips[word]) == 4") == [i for i in range(ROWS) if LENGTHS[i] == 4]
    assert ids("clips[word][0] == 'w6_0'") == [6] * (LENGTHS[6] > 0)


def test_what_is_refused(client, filled):
    query = [embedding_list(RANDOM.normal(size=(2, DIM)).astype(np.float32))]
    with pytest.raises(MilvusException, match="range search is not supported for vector array"):
        client.search(
            filled, query, anns_field="clips[emb]", search_params={"params": {"radius": 0.1}}
        )
    with pytest.raises(MilvusException, match="vector type must be the same"):
        client.search(filled, [[0.1] * DIM], anns_field="clips[emb]")
    with pytest.raises(MilvusException, match="metric type not match"):
        client.search(
            filled, query, anns_field="clips[emb]", search_params={"metric_type": "MAX_SIM_IP"}
        )
    with pytest.raises(MilvusException, match="exceeds max capacity"):
        client.insert(filled, [{"id": 99, "color": "x", "clips": clips_of(7)}])
    index = client.prepare_index_params()
    index.add_index("clips[word]", index_type="HNSW", metric_type="MAX_SIM")
    with pytest.raises(MilvusException, match="HNSW only supports vector data type"):
        client.create_index(filled, index)


def clips_of(count):
    return [{"word": "w", "second": n, "emb": [0.5] * DIM} for n in range(count)]


@pytest.mark.parametrize("kind", [DataType.FLOAT16_VECTOR, DataType.INT8_VECTOR])
def test_lists_of_narrower_vectors(client, name, kind):
    dtype = np.float16 if kind is DataType.FLOAT16_VECTOR else np.int8
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    struct = MilvusClient.create_struct_field_schema()
    struct.add_field("emb", kind, dim=DIM)
    schema.add_field(
        "s",
        datatype=DataType.ARRAY,
        element_type=DataType.STRUCT,
        struct_schema=struct,
        max_capacity=4,
    )
    index = client.prepare_index_params()
    index.add_index("s[emb]", index_type="HNSW", metric_type="MAX_SIM_L2")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    stored = [(RANDOM.normal(size=(2, DIM)) * 20).astype(dtype) for _ in range(10)]
    client.insert(
        name,
        [{"id": i, "s": [{"emb": vector} for vector in stored[i]]} for i in range(10)],
    )
    found = client.search(name, [embedding_list(stored[6])], anns_field="s[emb]", limit=3)
    assert found[0][0]["id"] == 6
    assert found[0][0]["distance"] == pytest.approx(0, abs=1e-3)


def test_structs_that_can_not_be(client, name):
    with pytest.raises(MilvusException, match="invalid dimension: 1"):
        client.create_collection(name, schema=struct_schema(client, dim=1))
