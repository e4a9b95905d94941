"""Jobs that import files."""

from datetime import UTC, datetime
from typing import Any

from elanus.access.context import CallContext
from elanus.access.dml.imports import create_job
from elanus.access.rest.bodies import as_texts
from elanus.access.rest.call import RestCall
from elanus.access.rest.errors import NotJson
from elanus.errors import ImportFailed
from elanus.model.imports import ImportGroup, ImportJob, ImportState


async def create(call: RestCall) -> dict[str, Any]:
    body = call.body
    groups = body.required_array("files")
    for group in groups:
        if not isinstance(group, list) or not all(isinstance(file, str) for file in group):
            raise NotJson("'files' should be an array of arrays of strings")
    job_id = await create_job(
        call.proxy,
        _context(call, "Import"),
        body.required_text("collectionName"),
        body.text("partitionName"),
        groups,
        as_texts(body.mapping("options")),
    )
    return {"data": {"jobId": str(job_id)}}


async def list_all(call: RestCall) -> dict[str, Any]:
    collection = call.body.text("collectionName")
    jobs = await call.proxy.coordinator.import_jobs(call.database, collection)
    return {"data": {"records": [_record(job) for job in jobs]}}


async def progress(call: RestCall) -> dict[str, Any]:
    text = call.body.required_text("jobId")
    if not text.isdecimal():
        raise ImportFailed(f"parse jobID failed: {text!r} is no number")
    job = await call.proxy.coordinator.import_job(int(text))
    rows = job.imported_rows or job.rows_read
    described = _record(job) | {
        "createTime": _time(job.created_ms),
        "completeTime": _time(job.ended_ms) if job.state is ImportState.COMPLETED else "",
        "importedRows": rows,
        "totalRows": rows,
        "fileSize": job.size_bytes,
        "details": [_detail(job, group) for group in job.groups],
    }
    return {"data": described}


def _context(call: RestCall, method: str) -> CallContext:
    return CallContext(method=method, database=call.database)


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
