"""What a cluster on one machine stands on if it is given nothing else: an etcd and a MinIO of its
own, and nginx in front of its proxies. Programs that are found, started, watched and ended.

::

    <data directory>/
      etcd/, objects/   their data
      nginx/            its configuration, made anew at every start
      objects.key       the object store's secret, given once

They listen on this machine only. A program that ends is started again. They are the last to be
stopped, since every process needs them to end in order.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from elanus.errors import InvalidParameter, Unavailable
from elanus.runtime.world import World

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
BUCKET = "elanus"
ACCESS_KEY = "elanus"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
CHECK_S = 0.05
PAUSE_S = (0.2, 10.0)
"""Before a program is started again: at first, and at most."""


@dataclass
class Program:
    """``port``: where it accepts connections once it is ready."""

    name: str
    command: tuple[str, ...]
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    failures: int = 0
    is_ready: bool = False
    is_outdated: bool = False

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"


def find_program(name: str, given: str = "") -> str | None:
    """The path of a program: ``given``, or what the PATH has. Raises InvalidParameter if what is
    given isn't a program."""
    found = shutil.which(given or name)
    if found is None and given:
        raise InvalidParameter(f"there is no program {given}", expected=name, actual=given)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def etcd_program(directory: Path, given: str = "") -> Program:
    """Raises InvalidParameter if there is none."""
    path = find_program("etcd", given)
    if path is None:
        raise InvalidParameter(
            "a cluster keeps its metadata in etcd, and there is none: install it (for example "
            "`apt install etcd-server`, or https://etcd.io), name the program with "
            "--etcd-program, or name running ones with --etcd host:port"
        )
    port, peer_port = free_port(), free_port()
    address, peer = f"http://{HOST}:{port}", f"http://{HOST}:{peer_port}"
    options = {
        "data-dir": directory / "etcd",
        "listen-client-urls": address,
        "advertise-client-urls": address,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "log-level": "warn",
    }
    return Program("etcd", (path, *(f"--{key}={value}" for key, value in options.items())), port)


def objects_program(directory: Path, given: str = "") -> Program | None:
    """MinIO on one drive; None if there is none."""
    path = find_program("minio", given)
    if path is None:
        return None
    drive, port = directory / "objects", free_port()
    # A directory of the drive is a bucket.
    (drive / BUCKET).mkdir(parents=True, exist_ok=True)
    environment = {
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": _secret(directory / "objects.key"),
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    command = (path, "server", str(drive), "--address", f"{HOST}:{port}", "--quiet")
    return Program("objects", command, port, environment)


def object_settings(program: Program) -> dict[str, Any]:
    """Where the objects are; the secret is told by ``secret_environment``."""
    return {
        "common.storageType": "remote",
        "minio.address": HOST,
        "minio.port": program.port,
        "minio.bucketName": BUCKET,
        "minio.accessKeyID": ACCESS_KEY,
    }


def secret_environment(program: Program) -> dict[str, str]:
    """What processes are told where other users of the machine can't read it."""
    return {"ELANUS_MINIO_SECRETACCESSKEY": program.environment["MINIO_ROOT_PASSWORD"]}


def _secret(path: Path) -> str:
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(20))
    return path.read_text()


class Programs:
    """Keeps programs alive."""

    def __init__(self, world: World, directory: Path) -> None:
        self._world = world
        self._directory = directory
        self._programs: dict[str, Program] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def start(self, programs: Sequence[Program]) -> None:
        """Returns when all accept connections. Raises Unavailable with the end of its log."""
        for program in programs:
            self._programs[program.name] = program
            keeper = self._world.tasks.spawn(f"keep {program.name}", self._keep(program))
            self._keepers.append(keeper)
        for program in programs:
            await self._wait_until_ready(program)

    def status(self) -> list[dict[str, Any]]:
        return [
            {
                "name": program.name,
                "role": program.name,
                "pid": None if program.process is None else program.process.pid,
                "failures": program.failures,
                "state": _state(program),
                "address": program.address,
                "term": 0,
                "owns": [],
            }
            for program in self._programs.values()
        ]

    def get(self, name: str) -> Program | None:
        return self._programs.get(name)

    def reload(self, name: str) -> None:
        """Have a program read its configuration again, as soon as it runs."""
        program = self._programs[name]
        if program.process is None or not program.is_ready:
            program.is_outdated = True  # it may have read it, or not
            return
        program.is_outdated = False
        with contextlib.suppress(ProcessLookupError):
            program.process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        self._stopping.set()
        for program in reversed(self._programs.values()):
            process = program.process
            if process is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                log.error("program killed, it did not stop", name=program.name)
                process.kill()
        for keeper in self._keepers:
            keeper.cancel()

    async def _keep(self, program: Program) -> None:
        first_s, longest_s = PAUSE_S
        while True:
            code = await self._live(program)
            if self._stopping.is_set():
                return
            program.failures = 1 if program.is_ready else program.failures + 1
            program.is_ready = False
            pause_s = min(longest_s, first_s * 2.0 ** (program.failures - 1))
            log.warning("program ended", name=program.name, code=code, restart_in_s=pause_s)
            await self._world.clock.sleep(pause_s)

    async def _live(self, program: Program) -> int:
        with self._log_of(program).open("ab") as output:
            program.process = await asyncio.create_subprocess_exec(
                *_ends_with_parent(),
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **program.environment},
            )
        watching = asyncio.create_task(self._watch(program))
        code = await program.process.wait()
        watching.cancel()
        # Workers of one that was killed would keep its port.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)
        program.process = None
        return code

    async def _watch(self, program: Program) -> None:
        """Note when it accepts connections."""
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, program.port)
                writer.close()
                program.is_ready = True
                if program.is_outdated:
                    self.reload(program.name)
                return
            await self._world.clock.sleep(CHECK_S)

    async def _wait_until_ready(self, program: Program) -> None:
        deadline_s = self._world.clock.monotonic_s() + START_TIMEOUT_S
        while not program.is_ready:
            if self._world.clock.monotonic_s() > deadline_s:
                tail = self._log_of(program).read_text(errors="replace")[-1_000:]
                raise Unavailable(
                    f"{program.name} does not accept connections after {START_TIMEOUT_S:.0f} s, "
                    f"it says: {tail}"
                )
            await self._world.clock.sleep(CHECK_S)

    def _log_of(self, program: Program) -> Path:
        return self._directory / f"{program.name}.log"


def _ends_with_parent() -> tuple[str, ...]:
    """The beginning of a command that gets SIGTERM when this process dies, however that happens:
    where the system has a program for that."""
    path = shutil.which("setpriv")
    return () if path is None else (path, "--pdeathsig", "TERM", "--")


def _state(program: Program) -> str:
    if program.process is None:
        return "down"
    return "serving" if program.is_ready else "starting"
