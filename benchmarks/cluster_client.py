"""Searches through an unmodified client, by turns at several servers; run by the clients' Python.

``cluster_client.py <rounds> <uri> [<uri> ...]`` prints JSON: for each kind of search, and each
server in the order given, the latencies of its searches in milliseconds.
"""

import json
import random
import sys
import time

from pymilvus import MilvusClient

COLLECTION = "words"
DIMENSION_FIELD = "vector"
WARM_UP = 50
KINDS = {
    "Strong, keys": {"consistency_level": "Strong"},
    "Strong, keys and words": {"consistency_level": "Strong", "output_fields": ["word"]},
    "Bounded, keys and words": {"consistency_level": "Bounded", "output_fields": ["word"]},
}


def search(client, vector, options):
    started_s = time.perf_counter()
    hits = client.search(
        COLLECTION, [vector], limit=10, search_params={"params": {"ef": 64}}, **options
    )
    assert len(hits[0]) == 10
    return (time.perf_counter() - started_s) * 1e3


def main():
    rounds, uris = int(sys.argv[1]), sys.argv[2:]
    clients = [MilvusClient(uri=uri, dedicated=True) for uri in uris]
    found = clients[0].query(
        COLLECTION, filter="rank < 500", limit=200, output_fields=[DIMENSION_FIELD]
    )
    vectors = [row[DIMENSION_FIELD] for row in found]
    chosen = random.Random(1)
    for client in clients:
        for options in KINDS.values():
            for _ in range(WARM_UP):
                search(client, chosen.choice(vectors), options)
    latencies = {kind: [[] for _ in uris] for kind in KINDS}
    for _ in range(rounds):
        vector = chosen.choice(vectors)
        for kind, options in KINDS.items():
            for place in chosen.sample(range(len(clients)), len(clients)):
                latencies[kind][place].append(search(clients[place], vector, options))
    print(json.dumps(latencies))


if __name__ == "__main__":
    main()
