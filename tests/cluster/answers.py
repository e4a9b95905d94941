"""Runs with the client's environment: ``answers.py <uri>``. Writes the same data as ever, flushes
some of it, and prints as JSON what searches, queries and counts answer."""

import json
import sys

import numpy as np
from pymilvus import DataType, MilvusClient

NAME, DIM, ROWS = "answers", 16, 1_200


def main():
    client = MilvusClient(uri=sys.argv[1])
    schema = MilvusClient.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("n", DataType.INT64)
    schema.add_field("word", DataType.VARCHAR, max_length=32)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(
        NAME, schema=schema, index_params=index, num_shards=2, consistency_level="Strong"
    )
    vectors = np.random.default_rng(3).normal(size=(ROWS, DIM)).astype(np.float32)
    rows = [
        {"id": i, "n": i % 7, "word": f"w{i % 11}", "vector": vectors[i].tolist()}
        for i in range(ROWS)
    ]
    client.insert(NAME, rows[: ROWS // 2])
    client.flush(NAME)
    client.insert(NAME, rows[ROWS // 2 :])
    client.delete(NAME, ids=list(range(0, ROWS, 10)))
    client.upsert(NAME, [{**rows[i], "word": "changed"} for i in range(1, ROWS, 50)])
    hits = client.search(
        NAME, vectors[:20].tolist(), limit=10, filter="n != 3", output_fields=["word"]
    )
    answers = {
        "hits": [
            [[h["id"], round(h["distance"], 4), h["entity"]["word"]] for h in q] for q in hits
        ],
        "rows": client.query(NAME, filter="n == 2 and id < 400", output_fields=["n", "word"]),
        "changed": client.query(NAME, filter='word == "changed"', output_fields=["id"]),
        "count": client.query(NAME, output_fields=["count(*)"])[0]["count(*)"],
        "expected_count": ROWS - ROWS // 10,
    }
    client.drop_collection(NAME)
    print(json.dumps(answers, default=str))


if __name__ == "__main__":
    main()
