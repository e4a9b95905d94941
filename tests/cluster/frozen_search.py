"""Runs with the client's environment: ``frozen_search.py <uri> fill <name> <replicas>`` makes a
collection with one sealed segment; ``... search <name> <times> <timeout_s>`` searches it, each time
without a second try, and prints as JSON what came of it: right and wrong answers, errors by code.
"""

import json
import sys
from collections import Counter

import grpc
from pymilvus import DataType, MilvusClient, MilvusException

ROWS, DIM = 500, 8


def fill(client, name, replicas):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("word", DataType.VARCHAR, max_length=16)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=DIM)
    index = client.prepare_index_params()
    index.add_index("v", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, num_shards=1)
    client.release_collection(name)
    rows = [{"id": key, "word": f"w{key}", "v": [float(key)] * DIM} for key in range(ROWS)]
    client.insert(name, rows)
    client.flush(name)
    client.load_collection(name, replica_number=replicas)


def search(client, name, times, timeout_s):
    outcome = Counter()
    messages = set()
    for number in range(times):
        key = number * 7 % ROWS
        try:
            hits = client.search(
                name,
                [[float(key)] * DIM],
                limit=1,
                output_fields=["word"],
                consistency_level="Strong",
                timeout=timeout_s,
                retry_times=0,
            )
        except MilvusException as error:
            outcome[f"code {error.code}"] += 1
            messages.add(error.message)
        except grpc.RpcError as error:
            outcome[str(error.code())] += 1
        else:
            is_right = hits[0][0]["id"] == key and hits[0][0]["entity"]["word"] == f"w{key}"
            outcome["right" if is_right else "wrong"] += 1
    print(json.dumps({"outcome": outcome, "messages": sorted(messages)}))


def main():
    uri, what, name = sys.argv[1:4]
    client = MilvusClient(uri=uri)
    if what == "fill":
        fill(client, name, int(sys.argv[4]))
    else:
        search(client, name, int(sys.argv[4]), float(sys.argv[5]))


if __name__ == "__main__":
    main()
