"""The same searches and inserts by a client that costs next to nothing, for client.py.

pymilvus takes more of a processor for a search than either server does, so what its searches a
second say of a server is hidden behind itself. Here its requests are made beforehand, as bytes, and
sent over a bare channel; of an answer no more is read than whether it is whole.
"""

import itertools
import sys
import time

import grpc
import numpy as np
from pymilvus import DataType, connections
from pymilvus.client.constants import BOUNDED_TS
from pymilvus.client.prepare import Prepare
from pymilvus.client.types import ConsistencyLevel
from pymilvus.grpc_gen import milvus_pb2

SERVICE = "/milvus.proto.milvus.MilvusService/"
BATCHES_PER_S = 10
WARM_UP_SEARCHES = 20
LIMIT = 10


def searches(name, data, options):
    """As ``throughput`` of client.py."""
    call = _method("Search")
    requests = [search_request(name, query[None], options["ef"]) for query in data["queries"]]
    for request in requests[:WARM_UP_SEARCHES]:
        _check_hits(call(request))
    _wait_for_start()
    first = done = options["offset"]
    end = time.monotonic() + options["seconds"]
    while time.monotonic() < end:
        _check_hits(call(requests[done % len(requests)]))
        done += 1
    return {"searches": done - first}


def alternating_searches(name, data, options):
    """Of the servers at ``addresses``, in turns of ``turn_s``, so many of each; how many each
    answered."""
    calls = [_method("Search", address) for address in options["addresses"]]
    requests = [search_request(name, query[None], options["ef"]) for query in data["queries"]]
    for call in calls:
        for request in requests[:WARM_UP_SEARCHES]:
            _check_hits(call(request))
    _wait_for_start()
    done, number = [0] * len(calls), options["offset"]
    for server, end in _turns(options):
        while time.monotonic() < end:
            _check_hits(calls[server](requests[number % len(requests)]))
            number += 1
            done[server] += time.monotonic() < end
    return {"searches": done}


def alternating_inserts(name, data, options):
    """As ``inserts``, into the server whose turn it is."""
    calls = [_method("Insert", address) for address in options["addresses"]]
    turn_s, size = options["turn_s"], options["rate"] // BATCHES_PER_S
    fields = connections._fetch_handler("default").describe_collection(name)["fields"]
    batches = int(options["turns"] * len(calls) * turn_s * BATCHES_PER_S)
    ids = [np.arange(size) + options["first_id"] + size * batch for batch in range(batches)]
    requests = iter([insert_request(name, fields, part, data["growing"]) for part in ids])
    _wait_for_start()
    for server, end in _turns(options):
        for request in itertools.islice(requests, int(turn_s * BATCHES_PER_S)):
            begun = time.monotonic()
            calls[server](request)
            if begun > end:
                break
            time.sleep(max(0.0, begun + 1 / BATCHES_PER_S - time.monotonic()))
    return {"inserted": batches * size}


def _turns(options):
    """(server, when its turn ends)."""
    started, turn_s = time.monotonic(), options["turn_s"]
    servers = len(options["addresses"])
    for number in range(options["turns"] * servers):
        yield number % servers, started + (number + 1) * turn_s


def inserts(name, data, options):
    """As ``inserting`` of client.py."""
    call = _method("Insert")
    rate, size = options["rate"], options["rate"] // BATCHES_PER_S
    fields = connections._fetch_handler("default").describe_collection(name)["fields"]
    starts = range(0, int(rate * options["seconds"]), size)
    ids = [np.arange(start, start + size) + options["first_id"] for start in starts]
    rows = data["growing"] if "growing" in data else data["rows"]
    requests = [insert_request(name, fields, part, rows) for part in ids]
    _wait_for_start()
    started = time.monotonic()
    for start, request in zip(starts, requests, strict=True):
        answer = milvus_pb2.MutationResult.FromString(call(request))
        assert answer.insert_cnt == size, answer.status
        time.sleep(max(0.0, started + (start + size) / rate - time.monotonic()))
    sent = len(requests) * size
    return {"inserted": sent, "rows_per_s": sent / (time.monotonic() - started)}


def search_request(name, vectors, ef):
    """What pymilvus sends for this search."""
    return Prepare.search_requests_with_expr(
        name,
        "vector",
        {"metric_type": "COSINE", "params": {"ef": ef}},
        LIMIT,
        data=vectors,
        consistency_level=ConsistencyLevel.Value("Bounded"),
        guarantee_timestamp=BOUNDED_TS,
        use_default_consistency=False,
    ).SerializeToString()


def insert_request(name, fields, ids, rows):
    """What pymilvus sends to insert some of ``rows`` under these ids."""
    columns = [
        {"name": "id", "type": DataType.INT64, "values": ids.tolist()},
        {"name": "bucket", "type": DataType.INT64, "values": (ids % 1_000).tolist()},
        {
            "name": "vector",
            "type": DataType.FLOAT_VECTOR,
            "values": rows[ids % len(rows)].tolist(),
        },
    ]
    return Prepare.batch_insert_param(name, columns, "", fields).SerializeToString()


def _method(name, address=None):
    address = address or connections.get_connection_addr("default")["address"]
    channel = grpc.insecure_channel(address)
    return channel.unary_unary(SERVICE + name)


def _check_hits(answer):
    found = milvus_pb2.SearchResults.FromString(answer)
    assert len(found.results.ids.int_id.data) == LIMIT, found.status


def _wait_for_start():
    print("ready", flush=True)
    sys.stdin.readline()
