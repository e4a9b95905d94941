"""Bulk imports: from requests to jobs, and what is told of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from elanus.access.context import CallContext
from elanus.access.ddl.lookup import find_collection
from elanus.access.dml.partitions import insert_partition
from elanus.access.proxy import Proxy
from elanus.errors import ImportFailed
from elanus.model.imports import ImportJob, ImportJobRequest, ImportState
from elanus.wire.protocol import milvus
from elanus.wire.schema import dict_to_pairs, pairs_to_dict
from elanus.wire.status import success

_STATES = {  # ImportState of the protocol
    ImportState.PENDING: 0,
    ImportState.FAILED: 1,
    ImportState.IMPORTING: 2,
    ImportState.COMPLETED: 6,
}
_UNITS_S = {"h": 3_600.0, "m": 60.0, "s": 1.0}
_UNSERVED = ("backup", "l0_import")


async def create_job(
    proxy: Proxy,
    context: CallContext,
    collection_name: str,
    partition_name: str,
    groups: Sequence[Sequence[str]],
    options: Mapping[str, str],
) -> int:
    """The id of a new job. Raises what a request may have wrong."""
    info = await find_collection(proxy, context, collection_name)
    for name in _UNSERVED:
        if options.get(name, "false").lower() != "false":
            raise ImportFailed(f"the import option {name} is not implemented")
    return await proxy.coordinator.create_import(
        ImportJobRequest(
            collection_id=info.collection_id,
            partition_id=insert_partition(proxy, info, partition_name),
            partition=partition_name,
            groups=tuple(tuple(files) for files in groups),
            separator=options.get("sep", ","),
            null_text=options.get("nullkey", ""),
            timeout_s=_timeout_s(options.get("timeout", "")),
        )
    )


def _timeout_s(text: str) -> int:
    """Of a duration like ``300s`` or ``1h30m``, or a number of seconds; 0 for none."""
    left, seconds, number = text.strip().lower(), 0.0, ""
    for character in left:
        if character in _UNITS_S and number:
            seconds += float(number) * _UNITS_S[character]
            number = ""
        elif character.isdigit() or (character == "." and number and "." not in number):
            number += character
        else:
            raise ImportFailed(f"parse timeout failed: {text!r} is no duration like 300s")
    return max(1, int(seconds + float(number or 0))) if left else 0


async def import_files(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """All files together: one job of one set."""
    options = pairs_to_dict(request.options)
    job_id = await create_job(
        proxy,
        context,
        request.collection_name,
        request.partition_name,
        [list(request.files)],
        options,
    )
    return milvus.ImportResponse(status=success(), tasks=[job_id])


async def get_import_state(proxy: Proxy, request: Any, context: CallContext) -> Any:
    return _state(await proxy.coordinator.import_job(request.task))


async def list_import_tasks(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """The newest first, at most as many as the request's limit, if it has one."""
    jobs = await proxy.coordinator.import_jobs(context.database, request.collection_name)
    newest = sorted(jobs, key=lambda job: -job.job_id)
    chosen = newest[: request.limit] if request.limit > 0 else newest
    return milvus.ListImportTasksResponse(status=success(), tasks=[_state(job) for job in chosen])


def _state(job: ImportJob) -> Any:
    infos = {
        "failed_reason": job.reason,
        "progress_percent": str(job.progress),
        "files": ",".join(file for group in job.groups for file in group.files),
        "collection": job.collection_name,
        "partition": job.request.partition,
    }
    return milvus.GetImportStateResponse(
        status=success(),
        state=_STATES[job.state],
        row_count=job.imported_rows or job.rows_read,
        infos=dict_to_pairs(infos),
        id=job.job_id,
        collection_id=job.request.collection_id,
        create_ts=job.created_ms // 1000,
    )


HANDLERS = {
    "Import": import_files,
    "GetImportState": get_import_state,
    "ListImportTasks": list_import_tasks,
}
