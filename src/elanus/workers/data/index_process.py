"""Index builds in a child process: niced, so that searches keep the processor; gone when idle, so
that an idle server has no memory in it; dead when its parent is, whatever kills that.

Parent and child speak JSON lines over the child's standard input and output: one request, one
answer. ``python -m elanus.workers.data.index_process`` is the child; it loads numpy, faiss and the
builder, nothing else of the server.
"""

import asyncio
import contextlib
import os
import queue
import sys
import threading

import msgspec

from elanus.engine.index.base import Note, unheard
from elanus.errors import InternalError, InvalidParameter
from elanus.model.types import MetricType
from elanus.workers.data.build_request import BuildRequest, run_build
from elanus.workers.data.children import (
    NICENESS,
    describe_exit,
    die_with_parent,
    kill_child,
    start_child,
)

IDLE_S = 5.0
_MAX_LINE_BYTES = 1 << 20
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""A build jumps about in hundreds of megabytes: with large pages it is a sixth faster."""

_WAIT_POLICY = "PASSIVE"
"""Threads of a build that wait for each other leave the processor to searches."""


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    index_type: str
    metric: str | None
    params: dict[str, str]
    column_path: str
    out_path: str
    threads: int


class _Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``rows`` of a finished build and what there was to note, or the ``error`` that ended it;
    ``invalid``: the user's."""

    rows: int = 0
    notes: list[str] = []
    error: str = ""
    invalid: bool = False


class ProcessBuilder:
    """Implements ``builder.IndexBuilder``; one build at a time."""

    def __init__(self, *, idle_s: float = IDLE_S, niceness: int = NICENESS) -> None:
        self._idle_s = idle_s
        self._niceness = niceness
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    @property
    def process_id(self) -> int | None:
        """The child's, while there is one."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    async def build(self, request: BuildRequest, note: Note = unheard) -> int:
        async with self._lock:
            line = msgspec.json.encode(
                _Request(
                    index_type=request.index_type,
                    metric=request.metric and request.metric.value,
                    params=request.params,
                    column_path=request.column_path,
                    out_path=request.out_path,
                    threads=request.threads,
                )
            )
            try:
                reply = await self._exchange(line + b"\n")
            except BaseException:
                await self._kill()
                raise
            answer = msgspec.json.decode(reply, type=_Answer)
        if answer.invalid:
            raise InvalidParameter(answer.error.removesuffix(": invalid parameter"))
        if answer.error:
            raise InternalError(f"index build failed: {answer.error}")
        for each in answer.notes:
            note(each)
        return answer.rows

    async def _exchange(self, line: bytes) -> bytes:
        for is_fresh in (False, True):
            process = await self._running(fresh=is_fresh)
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(line)
                await process.stdin.drain()
            reply = await process.stdout.readline()
            if reply.endswith(b"\n"):
                return reply
            code = await process.wait()
            if is_fresh or code != 0:
                raise InternalError(
                    f"the index build process ended with {describe_exit(code)}, free some memory "
                    "or look at the system's log"
                )
            # It went idle at the moment of the request.
        raise AssertionError("unreachable")

    async def _running(self, *, fresh: bool) -> asyncio.subprocess.Process:
        process = self._process
        if not fresh and process is not None and process.returncode is None:
            return process
        self._process = await start_child(
            "index build process",
            "elanus.workers.data.index_process",
            self._idle_s,
            self._niceness,
            max_line_bytes=_MAX_LINE_BYTES,
            environment={"GLIBC_TUNABLES": _HUGE_PAGES, "OMP_WAIT_POLICY": _WAIT_POLICY},
        )
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            await kill_child(process)

    async def close(self) -> None:
        """End the child, and a build that runs."""
        await self._kill()


# --- the child ----------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until none came for the idle time, or until the parent is gone."""
    idle_s, niceness = float(sys.argv[1]), int(sys.argv[2])
    die_with_parent()
    os.nice(niceness)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    while True:
        try:
            line = requests.get(timeout=idle_s)
        except queue.Empty:
            os._exit(0)
        answers.write(msgspec.json.encode(_answer(line)) + b"\n")


def _read_requests(requests: "queue.SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)  # the parent closed the pipe or died


def _answer(line: bytes) -> _Answer:
    notes: list[str] = []
    try:
        request = msgspec.json.decode(line, type=_Request)
        rows = run_build(
            BuildRequest(
                request.index_type,
                None if request.metric is None else MetricType(request.metric),
                request.params,
                request.column_path,
                request.out_path,
                request.threads,
            ),
            notes.append,
        )
    except InvalidParameter as error:
        return _Answer(error=str(error), invalid=True)
    except Exception as error:  # noqa: BLE001 - the parent is told of every failure
        return _Answer(error=f"{type(error).__name__}: {error}")
    return _Answer(rows=rows, notes=notes)


if __name__ == "__main__":
    main()
