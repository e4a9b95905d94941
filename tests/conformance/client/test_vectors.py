"""Vectors of every kind: in, out and found, growing and flushed, by every metric."""

import time

import numpy as np
import pymilvus
import pytest
from pymilvus import AnnSearchRequest, DataType, MilvusClient, MilvusException, RRFRanker

DIM = 16
ROWS = 60
FLOATS = np.random.default_rng(11).normal(size=(1_200, DIM)).astype(np.float32)
BITS = np.random.default_rng(12).random((1_200, DIM * 8)) < 0.3


def bfloat16(row):
    """Truncated: NumPy has no such type."""
    return row.astype("<f4").view("<u4").__rshift__(16).astype("<u2")


def sparse_row(i):
    return {int(k): float(abs(FLOATS[i, k]) + 0.1) for k in range(DIM) if (i * 7 + k) % 3}


GIVEN = {
    DataType.FLOAT_VECTOR: lambda i: FLOATS[i].tolist(),
    DataType.FLOAT16_VECTOR: lambda i: FLOATS[i].astype(np.float16),
    DataType.BFLOAT16_VECTOR: lambda i: bfloat16(FLOATS[i]).tobytes(),
    DataType.INT8_VECTOR: lambda i: (FLOATS[i] * 30).astype(np.int8),
    DataType.BINARY_VECTOR: lambda i: np.packbits(BITS[i]).tobytes(),
    DataType.SPARSE_FLOAT_VECTOR: sparse_row,
}
PLAIN = {
    DataType.FLOAT_VECTOR: lambda i: FLOATS[i].astype(float),
    DataType.FLOAT16_VECTOR: lambda i: FLOATS[i].astype(np.float16).astype(float),
    DataType.BFLOAT16_VECTOR: lambda i: (
        (bfloat16(FLOATS[i]).astype("<u4") << 16).view("<f4").astype(float)
    ),
    DataType.INT8_VECTOR: lambda i: (FLOATS[i] * 30).astype(np.int8).astype(float),
    DataType.BINARY_VECTOR: lambda i: BITS[i],
    DataType.SPARSE_FLOAT_VECTOR: lambda i: np.array([sparse_row(i).get(k, 0) for k in range(DIM)]),
}
SCORES = {
    "L2": lambda q, x: ((q - x) ** 2).sum(),
    "IP": lambda q, x: q @ x,
    "COSINE": lambda q, x: q @ x / np.linalg.norm(q) / np.linalg.norm(x),
    "HAMMING": lambda q, x: (q != x).sum(),
    "JACCARD": lambda q, x: 1 - (q & x).sum() / (q | x).sum(),
}
DENSE = list(GIVEN)[:4]
KINDS = [
    *((kind, metric) for kind in DENSE for metric in ("L2", "IP", "COSINE")),
    (DataType.BINARY_VECTOR, "HAMMING"),
    (DataType.BINARY_VECTOR, "JACCARD"),
    (DataType.SPARSE_FLOAT_VECTOR, "IP"),
]
INDEXES = {DataType.INT8_VECTOR: "HNSW", DataType.BINARY_VECTOR: "BIN_FLAT"}
INDEXES[DataType.SPARSE_FLOAT_VECTOR] = "SPARSE_INVERTED_INDEX"


def asked(kind, i):
    """A query. Bytes would be taken for a binary vector."""
    return PLAIN[kind](i).tolist() if kind is DataType.BFLOAT16_VECTOR else GIVEN[kind](i)


def dim_of(kind):
    if kind is DataType.SPARSE_FLOAT_VECTOR:
        return {}
    return {"dim": DIM * 8 if kind is DataType.BINARY_VECTOR else DIM}


def create(client, name, kind, metric, index_type=None, rows=ROWS, **params):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("n", DataType.INT64)
    schema.add_field("vector", kind, **dim_of(kind))
    index = client.prepare_index_params()
    chosen = index_type or INDEXES.get(kind, "FLAT")
    index.add_index("vector", index_type=chosen, metric_type=metric, params=params)
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    client.insert(name, [{"id": i, "n": i % 4, "vector": GIVEN[kind](i)} for i in range(rows)])


def expected(kind, metric, query, keys, limit):
    scores = {key: SCORES[metric](PLAIN[kind](query), PLAIN[kind](key)) for key in keys}
    if kind is DataType.SPARSE_FLOAT_VECTOR:
        scores = {key: score for key, score in scores.items() if score > 0}
    best = sorted(map(float, scores.values()), reverse=metric in ("IP", "COSINE"))[:limit]
    return scores, best


@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "flushed"])
@pytest.mark.parametrize(("kind", "metric"), KINDS)
def test_search_finds_the_nearest(client, name, kind, metric, flushed):
    create(client, name, kind, metric)
    client.delete(name, ids=[3, 4])
    if flushed:
        client.flush(name)
    left = [i for i in range(ROWS) if i not in (3, 4)]
    for query, text, keys in [(5, "", left), (7, "n > 1", [i for i in left if i % 4 > 1])]:
        found = client.search(
            name, [asked(kind, query)], limit=10, filter=text, anns_field="vector"
        )[0]
        scores, best = expected(kind, metric, query, keys, 10)
        assert np.allclose([hit["distance"] for hit in found], best, rtol=1e-3, atol=1e-4)
        for hit in found:
            assert hit["distance"] == pytest.approx(scores[hit["id"]], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "flushed"])
@pytest.mark.parametrize("kind", list(GIVEN))
def test_vectors_come_back_as_they_were(client, name, kind, flushed):
    create(client, name, kind, {"BIN_FLAT": "HAMMING"}.get(INDEXES.get(kind), "IP"))
    client.upsert(name, [{"id": 5, "n": 0, "vector": GIVEN[kind](900)}])
    if flushed:
        client.flush(name)
    rows = {row["id"]: row["vector"] for row in client.get(name, ids=[2, 5, 1])}
    hits = client.search(name, [asked(kind, 1)], limit=60, output_fields=["vector"])[0]
    rows |= {hit["id"]: hit["entity"]["vector"] for hit in hits}
    for key, value in rows.items():
        source = 900 if key == 5 else key
        if kind is DataType.SPARSE_FLOAT_VECTOR:
            assert {int(k): v for k, v in value.items()} == pytest.approx(sparse_row(source))
            continue
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if kind is DataType.FLOAT_VECTOR:
            assert np.array_equal(np.array(value, np.float32), FLOATS[source])
        else:
            given = GIVEN[kind](source)
            raw = given if isinstance(given, bytes) else given.tobytes()
            sent = value if isinstance(value, bytes) else np.array(value, given.dtype).tobytes()
            assert sent == raw


@pytest.mark.parametrize(
    ("kind", "metric", "index_type", "params"),
    [
        (DataType.SPARSE_FLOAT_VECTOR, "IP", "SPARSE_WAND", {"drop_ratio_build": 0.2}),
        (
            DataType.SPARSE_FLOAT_VECTOR,
            "IP",
            "SPARSE_INVERTED_INDEX",
            {"inverted_index_algo": "TAAT_NAIVE"},
        ),
        (DataType.BINARY_VECTOR, "HAMMING", "BIN_IVF_FLAT", {"nlist": 16}),
        (DataType.BINARY_VECTOR, "JACCARD", "BIN_IVF_FLAT", {"nlist": 16}),
        (DataType.FLOAT16_VECTOR, "COSINE", "HNSW", {"M": 16}),
        (DataType.FLOAT16_VECTOR, "L2", "IVF_FLAT", {"nlist": 16}),
        (DataType.BFLOAT16_VECTOR, "IP", "HNSW", {"M": 16}),
        (DataType.BFLOAT16_VECTOR, "COSINE", "AUTOINDEX", {}),
        (DataType.INT8_VECTOR, "COSINE", "HNSW", {"M": 16}),
        (DataType.INT8_VECTOR, "L2", "AUTOINDEX", {}),
        (DataType.BINARY_VECTOR, "HAMMING", "AUTOINDEX", {}),
        (DataType.SPARSE_FLOAT_VECTOR, "IP", "AUTOINDEX", {}),
    ],
)
def test_built_indexes_find_the_nearest(client, name, kind, metric, index_type, params):
    create(client, name, kind, metric, index_type, rows=1_100, **params)
    client.flush(name)
    deadline = time.monotonic() + 240
    while client.describe_index(name, "vector")["pending_index_rows"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.describe_index(name, "vector")["index_type"] == index_type
    search = {"params": {"nprobe": 16, "ef": 100}}
    found = client.search(name, [asked(kind, 5)], limit=10, search_params=search)[0]
    scores, best = expected(kind, metric, 5, range(1_100), 10)
    assert np.allclose([hit["distance"] for hit in found], best, rtol=1e-3, atol=1e-4)
    assert all(hit["distance"] == pytest.approx(scores[hit["id"]], 1e-3, 1e-4) for hit in found)


def test_structures_are_found_among_binary_vectors(client, name):
    rows = [0b1100_0000, 0b1110_0000, 0b0000_0011, 0b0100_0000]
    for number, (metric, query, keys) in enumerate(
        [("SUPERSTRUCTURE", 0b1110_0000, [0, 1, 3]), ("SUBSTRUCTURE", 0b1100_0000, [0, 1])]
    ):
        client.create_collection(
            f"{name}{number}",
            schema=simple_schema(DataType.BINARY_VECTOR, dim=8),
            index_params=index_of(client, "BIN_FLAT", metric),
            consistency_level="Strong",
        )
        client.insert(f"{name}{number}", [{"id": i, "v": bytes([b])} for i, b in enumerate(rows)])
        found = client.search(f"{name}{number}", [bytes([query])], limit=10)[0]
        assert [(hit["id"], hit["distance"]) for hit in found] == [(key, 0) for key in keys]
        client.drop_collection(f"{name}{number}")


def test_range_search_and_pages(client, name):
    create(client, name, DataType.SPARSE_FLOAT_VECTOR, "IP")
    scores, best = expected(DataType.SPARSE_FLOAT_VECTOR, "IP", 5, range(ROWS), ROWS)
    bounds = {"params": {"radius": best[20] + 1e-4, "range_filter": best[3] + 1e-4}}
    found = client.search(name, [sparse_row(5)], limit=50, search_params=bounds)[0]
    assert np.allclose([hit["distance"] for hit in found], best[3:20], rtol=1e-3)
    pages = client.search_iterator(name, [sparse_row(5)], batch_size=7, limit=50)
    seen = []
    while page := pages.next():
        seen += [hit["id"] for hit in page]
    assert len(seen) == len(set(seen)) == min(50, len(scores))


def test_hybrid_search_over_different_kinds(client, name):
    schema = simple_schema(DataType.BINARY_VECTOR, dim=DIM * 8)
    schema.add_field("s", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_field("h", DataType.FLOAT16_VECTOR, dim=DIM)
    index = index_of(client, "BIN_FLAT", "HAMMING")
    index.add_index("s", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    index.add_index("h", index_type="FLAT", metric_type="COSINE")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    half, binary = GIVEN[DataType.FLOAT16_VECTOR], GIVEN[DataType.BINARY_VECTOR]
    client.insert(
        name, [{"id": i, "v": binary(i), "s": sparse_row(i), "h": half(i)} for i in range(ROWS)]
    )
    requests = [
        AnnSearchRequest([binary(9)], "v", {"metric_type": "HAMMING"}, limit=20),
        AnnSearchRequest([sparse_row(9)], "s", {"metric_type": "IP"}, limit=20),
        AnnSearchRequest([half(9)], "h", {"metric_type": "COSINE"}, limit=20),
    ]
    found = client.hybrid_search(name, requests, RRFRanker(), limit=5, output_fields=["s"])[0]
    assert found[0]["id"] == 9


def simple_schema(kind, **params):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("v", kind, **params)
    return schema


def index_of(client, index_type, metric, **params):
    index = client.prepare_index_params()
    index.add_index("v", index_type=index_type, metric_type=metric, params=params)
    return index


@pytest.mark.parametrize(
    ("kind", "dim", "text"),
    [
        (DataType.BINARY_VECTOR, 12, "binary vector dimension should be multiple of 8"),
        (DataType.FLOAT16_VECTOR, 1, "should be in range 2 ~ 32768"),
        (DataType.BFLOAT16_VECTOR, 32_769, "should be in range 2 ~ 32768"),
        (DataType.BINARY_VECTOR, 262_152, "should be in range 2 ~ 262144"),
    ],
)
def test_dimensions_that_can_not_be_are_refused(client, name, kind, dim, text):
    with pytest.raises(Exception, match=text):
        client.create_collection(name, schema=simple_schema(kind, dim=dim))


@pytest.mark.parametrize(
    ("kind", "index_type", "metric", "params", "text"),
    [
        (
            "SPARSE",
            "HNSW",
            "IP",
            {},
            "data type SparseFloatVector can't build with this index HNSW",
        ),
        ("SPARSE", "SPARSE_WAND", "L2", {}, "only IP&BM25 is the supported metric type"),
        ("SPARSE", "SPARSE_WAND", "BM25", {}, "only BM25 Function output field support BM25"),
        (
            "SPARSE",
            "SPARSE_INVERTED_INDEX",
            "IP",
            {"inverted_index_algo": "X"},
            "sparse inverted index algo X not found or not supported, supported",
        ),
        (
            "SPARSE",
            "SPARSE_INVERTED_INDEX",
            "IP",
            {"drop_ratio_build": 1.0},
            "param 'drop_ratio_build' .* should be in range .0.000000, 1.000000.",
        ),
        ("BINARY", "BIN_FLAT", "L2", {}, "binary vector index does not support metric type: L2"),
        ("BINARY", "BIN_IVF_FLAT", "SUBSTRUCTURE", {}, "SUBSTRUCTURE not found or not supported"),
        ("BINARY", "IVF_FLAT", "HAMMING", {}, "data type BinaryVector can't build with this index"),
        ("INT8", "IVF_FLAT", "L2", {}, "data type Int8Vector can't build with this index IVF_FLAT"),
        ("INT8", "HNSW", "HAMMING", {}, "int vector index does not support metric type: HAMMING"),
        ("FLOAT16", "BIN_FLAT", "L2", {}, "data type Float16Vector can't build with this index"),
    ],
)
def test_indexes_that_can_not_be_are_refused(client, name, kind, index_type, metric, params, text):
    data_type = DataType[f"{kind}_FLOAT_VECTOR" if kind == "SPARSE" else f"{kind}_VECTOR"]
    dim = {} if kind == "SPARSE" else {"dim": 16}
    client.create_collection(name, schema=simple_schema(data_type, **dim))
    with pytest.raises(MilvusException, match=text) as caught:
        client.create_index(name, index_of(client, index_type, metric, **params))
    assert caught.value.code == 1100


def test_search_of_another_kind_is_refused(client, name):
    create(client, name, DataType.BINARY_VECTOR, "HAMMING")
    with pytest.raises(MilvusException, match="vector type must be the same"):
        client.search(name, [FLOATS[0].tolist()], limit=3)
    with pytest.raises(MilvusException, match=r"expected vector size\(byte\) 16, actual 8"):
        client.search(name, [bytes(8)], limit=3)


@pytest.mark.skipif(
    pymilvus.__version__.startswith("2"), reason="clients of 2.6 refuse nullable vectors themselves"
)
@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "flushed"])
@pytest.mark.parametrize("kind", list(GIVEN))
def test_rows_without_a_vector(client, name, kind, flushed):
    schema = simple_schema(kind, nullable=True, **dim_of(kind))
    metric = {"BIN_FLAT": "HAMMING"}.get(INDEXES.get(kind), "IP")
    index = index_of(client, INDEXES.get(kind, "FLAT"), metric)
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")
    client.insert(
        name, [{"id": i, "v": None if i % 3 == 1 else GIVEN[kind](i)} for i in range(ROWS)]
    )
    if flushed:
        client.flush(name)
    found = client.search(name, [asked(kind, 5)], limit=ROWS, output_fields=["v"])[0]
    assert found
    assert all(hit["id"] % 3 != 1 and hit["entity"]["v"] is not None for hit in found)
    rows = client.query(name, filter="id < 6", output_fields=["v"])
    assert [row["v"] is None for row in rows] == [False, True, False, False, True, False]
