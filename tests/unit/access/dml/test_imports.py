"""Requests for imports, and what is told of them."""

from typing import Any

import pytest
from tests.unit.access.conftest import Bench

from elanus.access.context import CallContext
from elanus.access.dml.imports import create_job, get_import_state, import_files, list_import_tasks
from elanus.errors import CollectionNotFound, ImportFailed, PartitionNotFound, Rejected
from elanus.model.imports import ImportGroup, ImportJob, ImportJobRequest, ImportState
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType
from elanus.wire.protocol import milvus
from elanus.wire.schema import dict_to_pairs, pairs_to_dict

KEY = FieldSchema(name="id", data_type=DataType.INT64, is_primary=True)
TENANT = FieldSchema(name="tenant", data_type=DataType.INT64, is_partition_key=True)


class Jobs:
    """The coordinator's part."""

    def __init__(self, bench: Bench) -> None:
        self.requests: list[ImportJobRequest] = []
        self.jobs: list[ImportJob] = []
        cluster: Any = bench.cluster
        cluster.create_import = self.create
        cluster.import_job = self.job
        cluster.import_jobs = self.all

    async def create(self, request: ImportJobRequest) -> int:
        self.requests.append(request)
        return 77

    async def job(self, job_id: int) -> ImportJob:
        return next(job for job in self.jobs if job.job_id == job_id)

    async def all(self, database: str, collection: str) -> list[ImportJob]:
        return self.jobs


def job(job_id: int, state: ImportState, **changes: Any) -> ImportJob:
    request = ImportJobRequest(collection_id=5, partition_id=6, groups=(("a.npy", "b.npy"),))
    values = {
        "request": request,
        "database": "default",
        "collection_name": "things",
        "groups": (ImportGroup(files=("a.npy", "b.npy"), rows=9),),
        "created_ms": 1_000_999,
        "deadline_ms": 0,
    }
    return ImportJob(job_id=job_id, state=state, **{**values, **changes})


async def test_all_files_of_the_old_request_are_one_set(bench: Bench) -> None:
    jobs = Jobs(bench)
    bench.create(KEY)
    request = milvus.ImportRequest(
        collection_name="things",
        files=["a.npy", "b.npy"],
        options=dict_to_pairs({"timeout": "1h30m", "sep": "|", "nullkey": "-", "backup": "false"}),
    )
    assert list((await bench.call(import_files, request)).tasks) == [77]
    [asked] = jobs.requests
    assert asked.groups == (("a.npy", "b.npy"),)
    assert (asked.separator, asked.null_text, asked.timeout_s) == ("|", "-", 5_400)


async def test_states_are_told_in_the_protocols_words(bench: Bench) -> None:
    jobs = Jobs(bench)
    jobs.jobs = [
        job(1, ImportState.PENDING),
        job(2, ImportState.IMPORTING, progress=40, groups=(), rows_read=7),
        job(3, ImportState.FAILED, reason="row 3"),
        job(4, ImportState.COMPLETED, progress=100),
    ]
    state = await bench.call(get_import_state, milvus.GetImportStateRequest(task=4))
    assert (state.state, state.row_count, state.id, state.create_ts) == (6, 9, 4, 1_000)
    infos = pairs_to_dict(state.infos)
    assert (infos["files"], infos["progress_percent"]) == ("a.npy,b.npy", "100")
    listed = await bench.call(list_import_tasks, milvus.ListImportTasksRequest(limit=3))
    assert [(each.id, each.state, each.row_count) for each in listed.tasks] == [
        (4, 6, 9),
        (3, 1, 9),
        (2, 2, 7),
    ]
    assert pairs_to_dict(listed.tasks[1].infos)["failed_reason"] == "row 3"


@pytest.mark.parametrize(
    ("collection", "partition", "options", "error", "text"),
    [
        ("nothing", "", {}, CollectionNotFound, "nothing"),
        ("things", "p", {}, PartitionNotFound, "p"),
        ("keyed", "p", {}, Rejected, "partition key mode"),
        ("things", "", {"timeout": "soon"}, ImportFailed, "soon"),
        ("things", "", {"backup": "true"}, ImportFailed, "backup is not implemented"),
    ],
)
async def test_what_can_not_be_is_refused(
    bench: Bench, collection: str, partition: str, options: Any, error: Any, text: str
) -> None:
    jobs = Jobs(bench)
    bench.create(KEY)
    bench.create(KEY, TENANT, name="keyed", partitions=("_default_0", "_default_1"))
    context = CallContext(method="Import")
    with pytest.raises(error, match=text):
        await create_job(bench.proxy, context, collection, partition, [["a.json"]], options)
    assert jobs.requests == []
