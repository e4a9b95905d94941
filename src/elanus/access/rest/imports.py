"""Jobs that import files. Each request passes as the RPC that it is like, so it is counted and
limited as that; but messages have no place for sets of files, nor for all that is told of a job."""

from datetime import UTC, datetime
from typing import Any

from elanus.access.context import CallContext
from elanus.access.dml.imports import create_job
from elanus.access.proxy import Proxy
from elanus.access.rest.bodies import as_texts
from elanus.access.rest.call import RestCall
from elanus.access.rest.errors import NotJson
from elanus.errors import ImportFailed
from elanus.model.imports import ImportGroup, ImportJob, ImportState
from elanus.wire.protocol import milvus
from elanus.wire.schema import dict_to_pairs
from elanus.wire.status import success

_LARGEST_ID = (1 << 63) - 1


async def create(call: RestCall) -> dict[str, Any]:
    body = call.body
    groups = body.required_array("files")
    for group in groups:
        if not isinstance(group, list) or not all(isinstance(file, str) for file in group):
            raise NotJson("'files' should be an array of arrays of strings")
    options = as_texts(body.mapping("options"))
    asked = milvus.ImportRequest(
        collection_name=body.required_text("collectionName"),
        partition_name=body.text("partitionName"),
        files=[file for group in groups for file in group],
        options=dict_to_pairs(options),
    )

    async def handle(proxy: Proxy, request: Any, context: CallContext) -> Any:
        collection, partition = request.collection_name, request.partition_name
        job_id = await create_job(proxy, context, collection, partition, groups, options)
        return milvus.ImportResponse(status=success(), tasks=[job_id])

    response = await call.send("Import", asked, handle)
    return {"data": {"jobId": str(response.tasks[0])}}


async def list_all(call: RestCall) -> dict[str, Any]:
    records: list[dict[str, Any]] = []

    async def handle(proxy: Proxy, request: Any, context: CallContext) -> Any:
        jobs = await proxy.coordinator.import_jobs(context.database, request.collection_name)
        records.extend(map(_record, jobs))
        return milvus.ListImportTasksResponse(status=success())

    collection = call.body.text("collectionName")
    asked = milvus.ListImportTasksRequest(collection_name=collection)
    await call.send("ListImportTasks", asked, handle)
    return {"data": {"records": records}}


async def progress(call: RestCall) -> dict[str, Any]:
    text = call.body.required_text("jobId")
    if not text.isdecimal() or int(text) > _LARGEST_ID:
        raise ImportFailed(f"parse jobID failed: {text!r} is no number")
    described: dict[str, Any] = {}

    async def handle(proxy: Proxy, request: Any, context: CallContext) -> Any:
        described.update(_described(await proxy.coordinator.import_job(request.task)))
        return milvus.GetImportStateResponse(status=success())

    asked = milvus.GetImportStateRequest(task=int(text))
    await call.send("GetImportState", asked, handle)
    return {"data": described}


def _described(job: ImportJob) -> dict[str, Any]:
    rows = job.imported_rows or job.rows_read
    return _record(job) | {
        "createTime": _time(job.created_ms),
        "completeTime": _time(job.ended_ms) if job.state is ImportState.COMPLETED else "",
        "importedRows": rows,
        "totalRows": rows,
        "fileSize": job.size_bytes,
        "details": [_detail(job, group) for group in job.groups],
    }


def _record(job: ImportJob) -> dict[str, Any]:
    record = {
        "jobId": str(job.job_id),
        "collectionName": job.collection_name,
        "state": job.state.value,
        "progress": job.progress,
    }
    return {**record, "reason": job.reason} if job.reason else record


def _detail(job: ImportJob, group: ImportGroup) -> dict[str, Any]:
    is_done = job.state is ImportState.COMPLETED
    detail = {
        "fileName": f"[{' '.join(group.files)}]",
        "fileSize": group.size_bytes,
        "state": job.state.value,
        "progress": job.progress,
        "completeTime": _time(job.ended_ms) if is_done else "",
        "importedRows": group.rows,
        "totalRows": group.rows,
    }
    return {**detail, "reason": job.reason} if job.reason else detail


def _time(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


ROUTES = {
    "jobs/import/create": create,
    "jobs/import/list": list_all,
    "jobs/import/get_progress": progress,
    "jobs/import/describe": progress,
}
