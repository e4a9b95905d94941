"""Imports in child processes: niced, so that searches keep the processor; one for each task, so
that its memory goes with it; dead when the parent is.

Parent and child speak JSON lines over the child's standard input and output: the request, then
events, of which one that asks for ids is answered by the first of them.
``python -m elanus.workers.data.importing.process`` is the child.
"""

import asyncio
import contextlib
import os
import sys

import msgspec

from elanus.errors import ElanusError, InternalError
from elanus.workers.data.children import (
    NICENESS,
    describe_exit,
    die_with_parent,
    kill_child,
    start_child,
)
from elanus.workers.data.importing.importer import AllocateIds, Told, follow
from elanus.workers.data.importing.request import (
    Event,
    Failed,
    Finished,
    ImportRequest,
    NeedIds,
)
from elanus.workers.data.importing.run import run_import

_MAX_LINE_BYTES = 16 << 20


class ProcessImporter:
    """Implements ``importer.Importer``."""

    def __init__(self, *, niceness: int = NICENESS) -> None:
        self._niceness = niceness

    async def run(self, request: ImportRequest, allocate_ids: AllocateIds, told: Told) -> Finished:
        process = await start_child(
            "import process",
            "elanus.workers.data.importing.process",
            self._niceness,
            max_line_bytes=_MAX_LINE_BYTES,
        )
        try:
            return await self._converse(process, request, allocate_ids, told)
        finally:
            await kill_child(process)

    async def _converse(
        self,
        process: asyncio.subprocess.Process,
        request: ImportRequest,
        allocate_ids: AllocateIds,
        told: Told,
    ) -> Finished:
        assert process.stdout is not None
        await _tell(process, msgspec.json.encode(request))
        while line := await process.stdout.readline():
            event: Event = msgspec.json.decode(line, type=Event)
            if isinstance(event, Finished):
                return event
            answer = await follow(event, allocate_ids, told)
            if isinstance(event, NeedIds):
                await _tell(process, str(answer).encode())
        code = await process.wait()
        raise InternalError(
            f"the import process ended with {describe_exit(code)}, free some memory "
            "or look at the system's log"
        )


async def _tell(process: asyncio.subprocess.Process, line: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(
        BrokenPipeError, ConnectionResetError
    ):  # its end is seen at its output
        process.stdin.write(line + b"\n")
        await process.stdin.drain()


# --- the child ----------------------------------------------------------------------------------


def main() -> None:
    """Do the import that the first line asks for."""
    die_with_parent()
    os.nice(int(sys.argv[1]))
    events = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no event

    def tell(event: Event) -> None:
        events.write(msgspec.json.encode(event) + b"\n")

    try:
        request = msgspec.json.decode(sys.stdin.buffer.readline(), type=ImportRequest)
        work = run_import(request)
        answer = None
        while True:
            event = next(work) if answer is None else work.send(answer)
            tell(event)
            if isinstance(event, Finished):
                return
            answer = int(sys.stdin.buffer.readline()) if isinstance(event, NeedIds) else 0
    except ElanusError as error:
        tell(Failed(reason=error.message, invalid=error.input_error))
    except Exception as error:  # noqa: BLE001 - the parent is told of every failure
        tell(Failed(reason=f"{type(error).__name__}: {error}", invalid=False))


if __name__ == "__main__":
    main()
