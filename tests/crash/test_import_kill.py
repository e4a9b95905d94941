"""kill -9 in the middle of an import: its rows are there all or none, and in the end all, once."""

import random
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tests.server import RunningServer

ROWS = 20_000
ROUNDS = 4
END_TIMEOUT_S = 60.0


def ask(server: RunningServer, route: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{server.uri}/v2/vectordb/{route}",
        orjson.dumps(body),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = orjson.loads(response.read())
    return answer


def count_of(server: RunningServer) -> int | None:
    """Rows that a Strong read sees; None while there is no answer."""
    body = {"collectionName": "c", "outputFields": ["count(*)"], "consistencyLevel": "Strong"}
    answer = ask(server, "entities/query", body)
    return answer["data"][0]["count(*)"] if answer["code"] == 0 else None


def job_state(server: RunningServer, job_id: str) -> str:
    state: str = ask(server, "jobs/import/describe", {"jobId": job_id})["data"]["state"]
    return state


def test_an_import_survives_the_death_of_its_server(tmp_path: Path) -> None:
    seconds = random.Random(4)
    objects = tmp_path / "data" / "objects"
    settings = {"log.level": "warning"}
    job_ids = []
    with RunningServer(tmp_path / "data", settings) as server:
        created = ask(server, "collections/create", {"collectionName": "c", "dimension": 16})
        assert created["code"] == 0
        for round_number in range(ROUNDS):
            first = round_number * ROWS
            vectors = np.random.default_rng(round_number).random((ROWS, 16), np.float32)
            table = pa.table({"id": range(first, first + ROWS), "vector": list(vectors)})
            pq.write_table(table, objects / f"{round_number}.parquet")
            body = {"collectionName": "c", "files": [[f"{round_number}.parquet"]]}
            answer = ask(server, "jobs/import/create", body)
            job_ids.append(answer["data"]["jobId"])
            # The moments differ: from right after the beginning until after the end.
            time.sleep(seconds.uniform(0, 1.5))
            server.kill()
            server.start()
            deadline = time.monotonic() + END_TIMEOUT_S
            while (state := job_state(server, job_ids[-1])) != "Completed":
                assert state != "Failed"
                assert count_of(server) in (None, first, first + ROWS)
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert count_of(server) == first + ROWS
        assert [job_state(server, job_id) for job_id in job_ids] == ["Completed"] * ROUNDS
