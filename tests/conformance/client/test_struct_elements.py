"""Single elements of arrays of structs: predicates on them, their vectors, rows without any."""

import numpy as np
import pymilvus
import pytest
from pymilvus import AnnSearchRequest, DataType, MilvusClient, MilvusException, RRFRanker
from pymilvus.client.embedding_list import EmbeddingList

DIM, ROWS = 8, 30
IS_NEWER = int(pymilvus.__version__.split(".")[0]) >= 3
newer = pytest.mark.skipif(not IS_NEWER, reason="this client can't ask for it")
RANDOM = np.random.default_rng(31)
VECTORS = [
    RANDOM.normal(size=(int(n), DIM)).astype(np.float32) for n in RANDOM.integers(0, 5, ROWS)
]


def clips(i):
    return [
        {"rank": (i + 3 * j) % 5, "tag": "qa" if (i + j) % 3 else "dev", "emb": vector.tolist()}
        for j, vector in enumerate(VECTORS[i])
    ]


def create(client, name, metric="COSINE", index_type="HNSW", **options):
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    struct = client.create_struct_field_schema()
    struct.add_field("rank", DataType.INT64)
    struct.add_field("tag", DataType.VARCHAR, max_length=20)
    struct.add_field("emb", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field(
        "clips",
        datatype=DataType.ARRAY,
        element_type=DataType.STRUCT,
        struct_schema=struct,
        max_capacity=6,
        **options,
    )
    index = MilvusClient.prepare_index_params()
    index.add_index("clips[emb]", index_type=index_type, metric_type=metric)
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")


@pytest.fixture(params=[False, True], ids=["growing", "sealed"])
def filled(client, name, request):
    create(client, name)
    client.insert(name, [{"id": i, "clips": clips(i)} for i in range(ROWS)])
    if request.param:
        flushed(client, name)
    return name


def flushed(client, name):
    client.flush(name)
    client.release_collection(name)
    client.load_collection(name)


def best(query, limit, test=lambda i, clip: True):
    """(id, place) of the elements most alike."""
    scores = {
        (i, j): float(query @ vector / np.linalg.norm(query) / np.linalg.norm(vector))
        for i in range(ROWS)
        for j, vector in enumerate(VECTORS[i])
        if test(i, clips(i)[j])
    }
    return sorted(scores.items(), key=lambda each: -each[1])[:limit]


def ids(client, name, text, **options):
    return [each["id"] for each in client.query(name, filter=text, **options)]


def test_predicates_on_elements_choose_rows(client, filled):
    def expect(text, test):
        assert ids(client, filled, text) == [i for i in range(ROWS) if test(clips(i))], text

    expect("match_any(clips, $[rank] >= 3)", lambda row: any(c["rank"] >= 3 for c in row))
    expect("MATCH_ALL(clips, $[tag] == 'qa')", lambda row: all(c["tag"] == "qa" for c in row))
    expect(
        "match_any(clips, $[rank] >= 3 and $[tag] == 'dev')",
        lambda row: any(c["rank"] >= 3 and c["tag"] == "dev" for c in row),
    )
    for name, test in (
        ("LEAST", lambda n: n >= 2),
        ("MOST", lambda n: n <= 2),
        ("EXACT", lambda n: n == 2),
    ):
        expect(
            f"MATCH_{name}(clips, $[tag] like 'q%', threshold=2)",
            lambda row, test=test: test(sum(c["tag"] == "qa" for c in row)),
        )
    expect("not match_any(clips, $[rank] == 1)", lambda row: all(c["rank"] != 1 for c in row))
    expect("array_length(clips) == 2", lambda row: len(row) == 2)
    wanted = [i for i in range(ROWS) if any(c["rank"] == 4 for c in clips(i))]
    options = {"filter_params": {"r": [4]}, "output_fields": ["id"], "limit": 3}
    assert ids(client, filled, "match_any(clips, $[rank] in {r})", **options) == wanted[:3]
    count = client.query(filled, "match_any(clips, $[rank] == 0)", output_fields=["count(*)"])
    assert count[0]["count(*)"] == sum(any(c["rank"] == 0 for c in clips(i)) for i in range(ROWS))


def test_rows_are_deleted_by_their_elements(client, filled):
    gone = [i for i in range(ROWS) if any(c["rank"] == 2 for c in clips(i))]
    deleted = client.delete(filled, filter="MATCH_ANY(clips, $[rank] == 2)")
    assert deleted["delete_count"] == len(gone)
    assert ids(client, filled, "id >= 0") == [i for i in range(ROWS) if i not in gone]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MATCH_ANY(clips, $[missing] == 1)", r"array field not found: clips\[missing\]"),
        (
            "element_filter(clips, $[rank] == 'bad')",
            "comparisons between Int64 and VarChar are not supported",
        ),
        (
            "MATCH_LEAST(clips, $[rank] >= 10, threshold=0)",
            "count in MATCH_LEAST must be positive",
        ),
        ("MATCH_LEAST(clips, $[rank] >= 10, threshold=-1)", "expecting IntegerConstant"),
        ("element_filter(clips, $[rank] ** 2 == 1)", "power can only apply on constants"),
        ("$[rank] == 1", r"can only be used inside ElementFilter or MATCH_\*"),
        (
            "element_filter(clips, $[rank] == 1) and id == 1",
            "element filter expression can only be the last expression",
        ),
    ],
)
def test_wrong_predicates_on_elements(client, name, text, said):
    create(client, name)
    with pytest.raises(MilvusException, match=said):
        client.query(name, filter=text)


def test_single_vectors_are_found_with_their_places(client, filled):
    queries = RANDOM.normal(size=(2, DIM)).astype(np.float32)
    for text, test in (
        ("", lambda i, clip: True),
        ("id % 2 == 1", lambda i, clip: i % 2 == 1),
        ("element_filter(clips, $[rank] > 1)", lambda i, clip: clip["rank"] > 1),
        (
            "id < 20 and element_filter(clips, $[rank] > 1 and $[tag] == 'qa')",
            lambda i, clip: i < 20 and clip["rank"] > 1 and clip["tag"] == "qa",
        ),
        ("match_all(clips, $[tag] == 'qa')", lambda i, clip: all_qa(i)),
    ):
        found = client.search(
            filled,
            queries.tolist(),
            anns_field="clips[emb]",
            filter=text,
            limit=6,
            output_fields=["clips"],
        )
        for query, hits in zip(queries, found, strict=True):
            expected = best(query, 6, test)
            assert [(hit["id"], hit["offset"]) for hit in hits] == [at for at, _ in expected], text
            scores = [score for _, score in expected]
            assert [hit["distance"] for hit in hits] == pytest.approx(scores, rel=1e-3)
            for hit in hits:
                row = clips(hit["id"])
                assert [clip["tag"] for clip in hit["entity"]["clips"]] == [c["tag"] for c in row]
    pages = [
        client.search(filled, queries[:1], anns_field="clips[emb]", limit=3, offset=offset)[0]
        for offset in (0, 3)
    ]
    paged = [(hit["id"], hit["offset"]) for page in pages for hit in page]
    assert paged == [at for at, _ in best(queries[0], 6)]


def all_qa(i):
    return all(clip["tag"] == "qa" for clip in clips(i))


def test_a_built_index_finds_single_vectors(client, name, load_indexed):
    create(client, name, "L2")
    stored = RANDOM.normal(size=(1_500, 2, DIM)).astype(np.float32)
    client.insert(
        name,
        [
            {"id": i, "clips": [{"rank": j, "tag": "t", "emb": v} for j, v in enumerate(row)]}
            for i, row in enumerate(stored)
        ],
    )
    load_indexed("clips[emb]", 1_500)
    query = RANDOM.normal(size=DIM).astype(np.float32)
    distances = ((stored - query) ** 2).sum(axis=2)
    for text, places in (("", distances.size), ("element_filter(clips, $[rank] == 1)", 1)):
        allowed = distances if places > 1 else np.where([False, True], distances, np.inf)
        nearest = np.argsort(allowed.ravel())[:10]
        hits = client.search(name, [query], anns_field="clips[emb]", filter=text, limit=10)[0]
        found = {(hit["id"], hit["offset"]) for hit in hits}
        assert len(found & {divmod(int(at), 2) for at in nearest}) >= 9


def test_what_single_vectors_can_not_have(client, filled):
    embeddings = EmbeddingList()
    embeddings.add([0.1] * DIM)
    with pytest.raises(MilvusException, match="vector type must be the same"):
        client.search(filled, [embeddings], anns_field="clips[emb]")
    with pytest.raises(MilvusException, match="group by is not supported for vector array"):
        client.search(filled, [[0.1] * DIM], anns_field="clips[emb]", group_by_field="id")
    asked = AnnSearchRequest([[0.1] * DIM], "clips[emb]", {}, limit=3)
    with pytest.raises(MilvusException, match="a hybrid search of the single vectors"):
        client.hybrid_search(filled, [asked, asked], RRFRanker(), limit=3)


def test_an_iterator_gives_all_elements(client, filled):
    query = RANDOM.normal(size=DIM).astype(np.float32)
    iterator = client.search_iterator(filled, [query], anns_field="clips[emb]", batch_size=7)
    found = []
    while page := iterator.next():
        found += [(hit["id"], hit["offset"]) for hit in page]
    iterator.close()
    assert found == [at for at, _ in best(query, 1_000)]


def test_lists_and_other_vectors_take_no_element_filter(client, name):
    create(client, name, "MAX_SIM")
    embeddings = EmbeddingList()
    embeddings.add([0.1] * DIM)
    with pytest.raises(MilvusException, match="use MATCH_ANY/MATCH_"):
        client.search(
            name,
            [embeddings],
            anns_field="clips[emb]",
            filter="element_filter(clips, $[rank] == 1)",
        )


@newer
def test_a_query_gives_the_elements_that_pass(client, filled):
    text = "id < 25 and element_filter(clips, $[rank] >= 2)"
    expected = [(i, j) for i in range(25) for j, clip in enumerate(clips(i)) if clip["rank"] >= 2]

    def pairs(rows):
        return [(row["id"], row["offset"]) for row in rows]

    assert pairs(client.query(filled, text, output_fields=["id"])) == expected
    assert pairs(client.query(filled, text, limit=7)) == expected[:7]
    assert pairs(client.query(filled, text, limit=5, offset=4)) == expected[4:9]
    [row] = client.query(filled, text, limit=1, output_fields=["clips"])
    assert [clip["tag"] for clip in row["clips"]] == [clip["tag"] for clip in clips(row["id"])]
    assert client.query(filled, "element_filter(clips, $[rank] == 9)") == []
    with pytest.raises(MilvusException, match="use MATCH_ANY to count rows"):
        client.query(filled, text, output_fields=["count(*)"])
    iterator = client.query_iterator(filled, batch_size=3, filter=text)
    found = []
    while page := iterator.next():
        assert len(page) <= 3
        found += pairs(page)
    iterator.close()
    assert found == expected


@newer
@pytest.mark.parametrize("sealed", [False, True])
def test_structs_may_be_null(client, name, sealed):
    create(client, name, "MAX_SIM_IP", nullable=True)
    rows = [{"id": i, "clips": clips(i)} for i in range(ROWS)]
    rows[4] = {"id": 4, "clips": None}
    rows[7] = {"id": 7}
    client.insert(name, rows)
    if sealed:
        flushed(client, name)
    assert ids(client, name, "clips is null") == [4, 7]
    assert ids(client, name, "clips is not null and id < 9") == [0, 1, 2, 3, 5, 6, 8]
    assert 4 not in ids(client, name, "MATCH_ALL(clips, $[rank] >= 0)")
    assert 4 not in ids(client, name, "not MATCH_ANY(clips, $[rank] == 9)")
    found = client.query(name, "id in [3, 4, 7]", output_fields=["clips", "id"])
    assert [row["clips"] is None for row in found] == [False, True, True]
    assert [clip["tag"] for clip in found[0]["clips"]] == [clip["tag"] for clip in clips(3)]
    client.upsert(name, [{"id": 3, "clips": None}, {"id": 4, "clips": clips(5)}])
    assert ids(client, name, "clips is null") == [3, 7]
    embeddings = EmbeddingList()
    embeddings.add(RANDOM.normal(size=DIM).astype(np.float32))
    [hits] = client.search(name, [embeddings], anns_field="clips[emb]", limit=ROWS)
    without = {3, 7} | {i for i in range(ROWS) if not clips(i)} | ({4} if not clips(5) else set())
    assert {hit["id"] for hit in hits} == set(range(ROWS)) - without | ({4} if clips(5) else set())
    described = client.describe_collection(name)
    [struct] = [field for field in described["fields"] if field["name"] == "clips"]
    assert struct["nullable"] is True
