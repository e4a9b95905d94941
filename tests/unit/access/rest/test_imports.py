"""Imports over REST: whole sets of files come through, as requests like all others."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.access.conftest import Bench
from tests.unit.access.dml.test_imports import KEY, Jobs, job
from tests.unit.access.rest.harness import Client

from elanus.access.dispatch import Dispatcher
from elanus.access.dml.imports import HANDLERS
from elanus.access.rest.app import RestApp
from elanus.errors import QuotaExceeded
from elanus.model.imports import ImportState


class Server:
    """``await server(route, body)`` gives the answer; ``observed``: (method, collection, code)."""

    def __init__(self, bench: Bench) -> None:
        self.observed: list[tuple[str, str, int]] = []
        self.dispatcher = Dispatcher(bench.proxy, HANDLERS, self)
        self._client = Client(bench.proxy, {})
        self._client.app = RestApp(bench.proxy, self.dispatcher, bench.proxy.settings.proxy.http)

    def observe(
        self, method: str, collection: str, seconds: float, code: int, stages: Mapping[str, float]
    ) -> None:
        self.observed.append((method, collection, code))

    async def __call__(self, route: str, **body: Any) -> Any:
        return await self._client(f"jobs/import/{route}", body)


@pytest.fixture
def jobs(bench: Bench) -> Jobs:
    bench.create(KEY)
    return Jobs(bench)


@pytest.fixture
def server(bench: Bench) -> Server:
    return Server(bench)


async def test_sets_of_files_stay_apart_and_every_request_is_counted(
    jobs: Jobs, server: Server
) -> None:
    files = [["a.npy", "b.npy"], ["c.json"]]
    created = await server(
        "create", collectionName="things", files=files, options={"timeout": "5s"}
    )
    assert created == {"code": 0, "data": {"jobId": "77"}}
    [asked] = jobs.requests
    assert (asked.groups, asked.timeout_s) == ((("a.npy", "b.npy"), ("c.json",)), 5)
    jobs.jobs = [job(77, ImportState.COMPLETED, progress=100, ended_ms=1)]
    listed = await server("list", collectionName="things")
    assert [each["jobId"] for each in listed["data"]["records"]] == ["77"]
    described = (await server("describe", jobId="77"))["data"]
    assert (described["state"], described["importedRows"]) == ("Completed", 9)
    assert server.observed == [
        ("Import", "things", 0),
        ("ListImportTasks", "things", 0),
        ("GetImportState", "", 0),
    ]


async def test_failures_are_counted_too(jobs: Jobs, server: Server) -> None:
    answer = await server("create", collectionName="nothing", files=[["a.json"]])
    assert (answer["code"], server.observed) == (100, [("Import", "nothing", 100)])
    assert (await server("describe", jobId="9" * 30))["code"] == 2100


async def test_requests_in_flight_and_quotas_bound_them(
    jobs: Jobs, server: Server, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.dispatcher.in_flight = bench.proxy.settings.proxy.max_task_num
    for route, body in (
        ("create", {"collectionName": "things", "files": [["a.json"]]}),
        ("list", {}),
        ("describe", {"jobId": "1"}),
    ):
        assert "maxTaskNum" in (await server(route, **body))["message"]
    server.dispatcher.in_flight = 0

    async def full(*_: Any) -> None:
        raise QuotaExceeded("the disk is full")

    monkeypatch.setattr(bench.proxy.limits, "admit", full)
    answer = await server("create", collectionName="things", files=[["a.json"]])
    assert answer["code"] == QuotaExceeded.code
    assert jobs.requests == []
