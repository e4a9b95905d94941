"""Processes of one machine end the sessions of those among them that die.

The kernel tells each of them of another one's death, at once and for certain, so nobody has to wait
until the lease has run out. A process is watched only if it was seen alive: its session names the
machine, the process id and the moment of its start, and all three are right. Who is silent but
alive, or on a machine that is gone as a whole, is a matter for the lease.
"""

import asyncio
import os
from pathlib import Path

import structlog

from elanus.errors import Unavailable
from elanus.runtime.world import World
from elanus.services.cluster.sessions import Membership, SessionInfo
from elanus.storage.meta.base import MetaStore

log = structlog.get_logger(__name__)

RETRY_S = 0.2
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_START_TIME_FIELD = 19
"""In ``/proc/<pid>/stat``, behind the name of the program."""


def machine_name() -> str:
    """The same for processes that can see each other, and for no others; empty if unknown."""
    try:
        return f"{_BOOT_ID.read_text().strip()} {_PID_NAMESPACE.readlink()}"
    except OSError:
        return ""


def started_ticks(pid: int) -> int:
    """When a process of this machine began, in clock ticks since the machine did; 0 if it is not
    there."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[_START_TIME_FIELD])


class Neighbours:
    """Watches from ``start`` to ``close``."""

    def __init__(self, world: World, meta: MetaStore, membership: Membership) -> None:
        self._world = world
        self._meta = meta
        self._membership = membership
        self._machine = machine_name()
        self._watched: dict[int, int] = {}
        """Lease → descriptor of the process."""

    def start(self) -> None:
        if self._machine and hasattr(os, "pidfd_open"):
            self._membership.listeners.append(self._changed)
            self._look_around()

    def close(self) -> None:
        for lease in list(self._watched):
            self._forget(lease)
        self._machine = ""

    def _changed(self, role: str) -> None:
        if self._machine:
            self._look_around()

    def _look_around(self) -> None:
        neighbours = {
            info.lease: info
            for info in self._membership.everyone()
            if info.machine == self._machine and info.pid != os.getpid()
        }
        for lease in self._watched.keys() - neighbours.keys():
            self._forget(lease)
        for lease in neighbours.keys() - self._watched.keys():
            self._watch(neighbours[lease])

    def _watch(self, info: SessionInfo) -> None:
        try:
            descriptor = os.pidfd_open(info.pid)
        except OSError:
            return  # not seen alive
        # Asked after the descriptor was opened, so that both are of the same process.
        if started_ticks(info.pid) != info.started_ticks:
            os.close(descriptor)
            return
        self._watched[info.lease] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._died, info)

    def _forget(self, lease: int) -> None:
        descriptor = self._watched.pop(lease)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _died(self, info: SessionInfo) -> None:
        # The entry stays, so that it is not watched again; only the event goes.
        asyncio.get_running_loop().remove_reader(self._watched[info.lease])
        log.warning("neighbour died", role=info.role, node_id=info.node_id, pid=info.pid)
        self._world.tasks.spawn(f"end session of {info.role} {info.node_id}", self._end(info))

    async def _end(self, info: SessionInfo) -> None:
        """The session ends by its lease at the latest: so long it is tried."""
        while self._membership.node(info.role, info.node_id) is not None:
            try:
                await self._meta.revoke_lease(info.lease)
                return
            except Unavailable as error:
                log.info("session of a neighbour not ended yet", reason=error.message)
            await self._world.clock.sleep(RETRY_S)
