"""A whole cluster on one machine, for development and tests: its processes, kept alive.

::

    <data directory>/
      control.sock   commands: one JSON line in, one JSON line out
      <name>/        data directory of the process <name>, for example streaming-2
      <name>.log     what it says

Proxies share one port, or have one each from ``proxy.port`` on if ``proxy.reusePort`` is off, for a
balancer before them. A process that ends by itself, or is killed, is started again after a pause
that grows with every failure. One that is drained hands over what it owns, ends, and stays away.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from elanus.errors import ElanusError, InvalidParameter, Unavailable
from elanus.roles.cluster.balancer import Balancer
from elanus.roles.cluster.peers import Peers
from elanus.roles.cluster.programs import Programs
from elanus.runtime.world import World
from elanus.services.cluster.sessions import Membership, SessionInfo
from elanus.services.interfaces import NodeService
from elanus.services.messages import NodeStatus
from elanus.services.rpc.client import stub

log = structlog.get_logger(__name__)

ROLE_NAMES = ("coordinator", "streaming", "query", "data", "proxy")
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
HEALTHY_AFTER_S = 30.0
STOP_TIMEOUT_S = 90.0
DESCRIBE_TIMEOUT_S = 2.0
READY = ("serving", "standby", "leading")
READY_CHECK_S = 0.2
UNSEEN_AFTER_S = 0.5
"""Time that nginx gets to send its calls elsewhere."""

CONTROL_SOCKET = "control.sock"
MAX_LINE_BYTES = 1 << 20


@dataclass
class _Child:
    """A process that should run, until it is unwanted. ``process`` is None between two lives."""

    name: str
    role: str
    settings: Mapping[str, Any]
    failures: int = 0
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    unwanted: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """``settings`` (KEY → value), ``config`` (a settings file) and ``environment`` are given to
    every process; ``peers`` is how they are asked how they are. ``programs`` is what the processes
    stand on, ``balancer`` what stands before the proxies; the caller starts the programs, and stops
    them when the processes have ended."""

    def __init__(
        self,
        world: World,
        membership: Membership,
        directory: Path,
        settings: Mapping[str, Any],
        config: Path | None,
        peers: Peers,
        *,
        environment: Mapping[str, str] | None = None,
        programs: Programs | None = None,
        balancer: Balancer | None = None,
    ) -> None:
        self._world = world
        self._environment = dict(environment or {})
        self._programs = programs
        self._balancer = balancer
        self._membership = membership
        self._directory = directory
        self._settings = dict(settings)
        self._config = config
        self._children: dict[str, _Child] = {}
        self._peers = peers
        self._server: asyncio.Server | None = None
        self.stopping = asyncio.Event()

    async def start(self, counts: Mapping[str, int]) -> None:
        """Start ``counts[role]`` processes of each role, and listen for commands."""
        path = self._directory / CONTROL_SOCKET
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._server = await asyncio.start_unix_server(self._serve, path, limit=MAX_LINE_BYTES)
        path.chmod(0o600)
        for role in ROLE_NAMES:
            for _ in range(counts.get(role, 0)):
                self.add(role)

    def add(self, role: str) -> str:
        """Start one more process of a role; its name."""
        if role not in ROLE_NAMES:
            raise InvalidParameter(
                f"unknown role {role}", expected=", ".join(ROLE_NAMES), actual=role
            )
        number = 1
        while f"{role}-{number}" in self._children:
            number += 1
        name = f"{role}-{number}"
        own: Mapping[str, Any] = {}
        if role == "proxy" and self._balancer is not None:
            own = self._balancer.add(name)
        child = _Child(name, role, own)
        self._children[child.name] = child
        child.keeper = self._world.tasks.spawn(f"keep {child.name}", self._keep(child))
        return child.name

    async def _keep(self, child: _Child) -> None:
        try:
            while not child.unwanted.is_set():
                started_s = self._world.clock.monotonic_s()
                code = await self._live(child)
                if child.unwanted.is_set():
                    return
                lived_s = self._world.clock.monotonic_s() - started_s
                if code == 0:
                    child.failures = 0
                    continue  # it was asked to
                child.failures = 1 if lived_s > HEALTHY_AFTER_S else child.failures + 1
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (child.failures - 1))
                log.warning("process ended", name=child.name, code=code, restart_in_s=pause_s)
                await self._world.clock.sleep(pause_s)
        finally:
            child.ended.set()

    async def _live(self, child: _Child) -> int:
        directory = self._directory / child.name
        settings = {
            "metrics.port": 0,
            **self._settings,
            **child.settings,
            "localStorage.path": str(directory),
        }
        has_own_port = child.role == "proxy" and not settings.get("proxy.reusePort", True)
        if has_own_port and "proxy.port" not in child.settings:
            number = int(child.name.rpartition("-")[2])
            settings["proxy.port"] = int(settings["proxy.port"]) + number - 1
        options = [f"--set={key}={value}" for key, value in settings.items()]
        if self._config is not None:
            options.append(f"--config={self._config}")
        log_path = self._directory / f"{child.name}.log"
        with log_path.open("ab") as output:
            child.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "elanus.cli.main", "run", child.role, *options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **self._environment},
            )
        code = await child.process.wait()
        child.process = None
        return code

    # --- commands -------------------------------------------------------------------------------

    async def status(self) -> list[dict[str, Any]]:
        """Each process: name, role, pid, state, term, what it owns. Programs come first."""
        sessions = {(s.role, s.pid): s for s in self._membership.everyone()}

        async def describe(child: _Child) -> dict[str, Any]:
            pid = child.process.pid if child.process is not None else None
            session = sessions.get((child.role, pid)) if pid is not None else None
            entry = {"name": child.name, "role": child.role, "pid": pid, "failures": child.failures}
            if session is None:
                return {**entry, "state": "starting" if pid else "down"}
            status = await self._ask(session)
            return {
                **entry,
                "node_id": session.node_id,
                "address": session.address,
                "state": status.state,
                "term": status.term,
                "owns": list(status.owns),
            }

        children = [child for child in self._children.values() if not child.ended.is_set()]
        programs = self._programs.status() if self._programs is not None else []
        return programs + list(await asyncio.gather(*map(describe, children)))

    async def _ask(self, session: SessionInfo) -> NodeStatus:
        node = stub(NodeService, self._peers.at(session.address), {"describe": DESCRIBE_TIMEOUT_S})
        try:
            return await node.describe()
        except ElanusError:
            return NodeStatus("silent")

    def kill(self, name: str) -> int:
        """SIGKILL; the process is started again. Its pid."""
        program = self._programs.get(name) if self._programs is not None else None
        process = self._child(name).process if program is None else program.process
        if process is None:
            raise Unavailable(f"{name} is not running now")
        process.send_signal(signal.SIGKILL)
        return process.pid

    async def restart(self, name: str) -> None:
        """Have the process hand over what it owns and end, start it again, and return when it
        serves. Raises Unavailable if it doesn't."""
        child = self._child(name)
        process = child.process
        if process is None:
            raise Unavailable(f"{name} is not running now")
        if self._balancer is not None:
            self._balancer.hide(name)
            await self._world.clock.sleep(UNSEEN_AFTER_S)
        try:
            await self._end(name, process)
            await self._until_ready(name, process.pid)
        finally:
            if self._balancer is not None:
                self._balancer.show(name)

    async def _until_ready(self, name: str, former_pid: int) -> None:
        deadline_s = self._world.clock.monotonic_s() + STOP_TIMEOUT_S
        while self._world.clock.monotonic_s() < deadline_s:
            for entry in await self.status():
                is_new = entry["name"] == name and entry["pid"] != former_pid
                if is_new and entry["state"] in READY:
                    return
            await self._world.clock.sleep(READY_CHECK_S)
        raise Unavailable(f"{name} does not serve again after {STOP_TIMEOUT_S:.0f} s")

    async def _end(self, name: str, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.error("process killed, it did not stop", name=name, timeout_s=STOP_TIMEOUT_S)
            process.kill()

    async def drain(self, name: str) -> None:
        """Have the process hand over what it owns and end; it is not started again."""
        child = self._child(name)
        child.unwanted.set()
        if self._balancer is not None:
            self._balancer.remove(name)
            await self._world.clock.sleep(UNSEEN_AFTER_S)
        await self._terminate(child)
        del self._children[name]

    async def _terminate(self, child: _Child) -> None:
        process = child.process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        elif child.keeper is not None:
            child.keeper.cancel()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await child.ended.wait()
        except TimeoutError:
            log.error("process killed, it did not stop", name=child.name, timeout_s=STOP_TIMEOUT_S)
            if child.process is not None:
                child.process.kill()
            await child.ended.wait()

    def _child(self, name: str) -> _Child:
        child = self._children.get(name)
        if child is None:
            known = ", ".join(self._children)
            raise InvalidParameter(f"no process is called {name}", expected=known, actual=name)
        return child

    async def stop(self) -> None:
        """End all, proxies first, the coordinators last: there is nobody to hand over to."""
        if self._server is not None:
            self._server.close()
        for child in self._children.values():
            child.unwanted.set()
        order: Sequence[str] = ("proxy", "query", "data", "streaming", "coordinator")
        for role in order:
            members = [child for child in self._children.values() if child.role == role]
            await asyncio.gather(*(self._stop_now(child) for child in members))
        await self._peers.close()

    async def _stop_now(self, child: _Child) -> None:
        # A second signal tells a process not to wait for others to take over.
        if child.process is not None:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGQUIT)
        await self._terminate(child)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            answer = await self._answer(json.loads(line))
        except (ElanusError, ValueError, KeyError, TypeError) as error:
            answer = {"error": str(error)}
        writer.write(json.dumps(answer).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        match command["do"]:
            case "status":
                return {"supervisor": os.getpid(), "processes": await self.status()}
            case "add":
                return {"name": self.add(command["role"])}
            case "kill":
                return {"pid": self.kill(command["name"])}
            case "restart":
                await self.restart(command["name"])
                return {"restarted": command["name"]}
            case "drain":
                await self.drain(command["name"])
                return {"drained": command["name"]}
            case "stop":
                self.stopping.set()
                return {"stopping": True}
            case other:
                raise InvalidParameter(f"unknown command {other}")


async def send_command(directory: Path, command: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the supervisor of ``directory``. Raises Unavailable if none runs there, and
    InvalidParameter with what it says if it refuses."""
    path = directory / CONTROL_SOCKET
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_BYTES)
    except OSError as error:
        raise Unavailable(
            f"no cluster runs in {directory}: start one with `elanus cluster up --data-dir "
            f"{directory}`"
        ) from error
    writer.write(json.dumps(dict(command)).encode() + b"\n")
    await writer.drain()
    answer: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    if "error" in answer:
        raise InvalidParameter(answer["error"])
    return answer
