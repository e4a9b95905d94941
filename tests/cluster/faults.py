"""The faults that a cluster is put to, one after another, and how long each kept clients waiting.

A fault's time goes from its beginning to the next one's. What it has cost is the longest time in it
from a client's first attempt of a write, or of a read, to its next success: of one client whatever
it asks for, or of any client at one shard. After a cut, which nothing can outlive, it is counted
from the cut's end.
"""

import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from tests.cluster.harness import READY, RunningCluster
from tests.cluster.load import ChaosLoad
from tests.services.tcp_proxy import TcpProxy

ROLES = ("proxy", "coordinator", "streaming", "query", "data")
SERVED_AGAIN_WITHIN_S = 120.0
PAUSE_S = (1.0, 4.0)
"""Between the end of one fault's effects and the next fault."""


@dataclass(frozen=True, slots=True)
class Injected:
    """``begin_s``: from when on its cost is counted."""

    kind: str
    victim: str
    begin_s: float
    end_s: float


class Faults:
    """``cables``: proxies in front of what the cluster depends on, by name."""

    def __init__(
        self,
        cluster: RunningCluster,
        load: ChaosLoad,
        cables: Mapping[str, TcpProxy],
        seed: int,
        *,
        lease_s: float,
    ) -> None:
        self.injected: list[Injected] = []
        self._cluster = cluster
        self._load = load
        self._cables = cables
        self._random = random.Random(seed)
        self._frozen_s = 2 * lease_s

    def run(self, length_s: float, cut_s: float) -> None:
        """Kills in random order from beginning to end; the other faults once each, spread evenly
        over the time. Ends when all were done."""
        started_s = time.monotonic()
        others = self._others(cut_s)
        share_s = length_s / (len(others) + 1)
        roles: list[str] = []
        while others or time.monotonic() < started_s + length_s:
            due = len(others) and time.monotonic() > started_s + length_s - len(others) * share_s
            if due:
                others.pop(0)()
            else:
                roles = roles or self._random.sample(ROLES, len(ROLES))
                self.kill(roles.pop())

    def _others(self, cut_s: float) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = [
            *(partial(self.freeze, role) for role in ("streaming", "coordinator", "query", "data")),
            *(partial(self.cut, name, cut_s) for name in self._cables),
            self.lose_machine,
        ]
        return self._random.sample(found, len(found))

    # --- the faults -----------------------------------------------------------------------------

    def kill(self, role: str) -> None:
        """kill -9; its supervisor starts it again. Of two of a role one is there."""
        self._wait_for(role)
        name = self._victim(role)
        begin_s = time.monotonic()
        self._cluster.kill(name)
        self._endure(f"{role} killed", name, begin_s)

    def freeze(self, role: str) -> None:
        """SIGSTOP for twice the lease."""
        self._cluster.wait_until_ready()
        name = self._victim(role)
        begin_s = time.monotonic()
        pid = self._cluster.pause(name)
        try:
            time.sleep(self._frozen_s)
        finally:
            self._cluster.resume(pid)
        self._endure(f"{role} frozen", name, begin_s)

    def lose_machine(self) -> None:
        """All processes of one number are gone, those that keep something without a word: as for
        the others when a machine stops. They are killed at the end of the time."""
        self._cluster.wait_until_ready()
        number = self._cluster.leader().rpartition("-")[2]
        names = [f"{role}-{number}" for role in ROLES]
        # Asked for beforehand: to ask the frozen takes time.
        pids = {each["name"]: int(each["pid"]) for each in self._cluster.status()}
        silent = [pids[name] for name in names[1:] if name in pids]
        begin_s = time.monotonic()
        for pid in silent:
            os.kill(pid, signal.SIGSTOP)
        # Connections to a lost machine's proxy are reset by whoever gets its address.
        os.kill(pids[names[0]], signal.SIGKILL)
        time.sleep(self._frozen_s)
        for pid in silent:
            os.kill(pid, signal.SIGKILL)
        self._endure("machine lost", f"machine {number}", begin_s)

    def cut(self, name: str, cut_s: float) -> None:
        """Nobody reaches a service for so long."""
        self._cluster.wait_until_ready()
        self._cables[name].cut()
        time.sleep(cut_s)
        begin_s = time.monotonic()
        self._cables[name].heal()
        self._endure(f"{name} cut for {cut_s:.0f} s", name, begin_s)

    def _wait_for(self, role: str) -> None:
        self._cluster.wait_for(
            f"every {role} ready",
            lambda all_: (
                all(each["state"] in READY for each in all_ if each["role"] == role)
                and any(each["state"] == "leading" for each in all_)
            ),
        )

    def _victim(self, role: str) -> str:
        """Of the coordinators the one that leads, of the streaming nodes one that owns a log."""
        if role == "coordinator":
            return self._cluster.leader()
        alive = [each for each in self._cluster.of_role(role) if each["pid"]]
        if role == "streaming":
            alive = [each for each in alive if each.get("owns")] or alive
        return str(self._random.choice([each["name"] for each in alive]))

    def _endure(self, kind: str, victim: str, begin_s: float) -> None:
        self._load.is_served_within(time.monotonic(), SERVED_AGAIN_WITHIN_S)
        time.sleep(self._random.uniform(*PAUSE_S))
        end_s = time.monotonic()
        self.injected.append(Injected(kind, victim, begin_s, end_s))
        print(f"{victim}: {kind}, {self._told(self._cost(begin_s, end_s))}", flush=True)

    # --- what they have cost --------------------------------------------------------------------

    def _cost(self, begin_s: float, end_s: float) -> list[float]:
        history = self._load.history
        return [
            history.longest_outage_s(kind, what, begin_s, end_s)
            for kind in ("writes", "reads")
            for what in ("client", "shard")
        ]

    @staticmethod
    def _told(cost: list[float]) -> str:
        names = ("writes of a client", "of a shard", "reads of a client", "of a shard")
        return ", ".join(f"{name} {each:.1f} s" for name, each in zip(names, cost, strict=True))

    def worst(self) -> dict[str, tuple[int, list[float]]]:
        """Kind → how many there were, and the worst cost of any."""
        costs: dict[str, list[list[float]]] = defaultdict(list)
        for fault in self.injected:
            costs[fault.kind].append(self._cost(fault.begin_s, fault.end_s))
        return {
            kind: (len(each), [max(column) for column in zip(*each, strict=True)])
            for kind, each in sorted(costs.items())
        }

    def table(self) -> str:
        """As Markdown."""
        rows = [
            "| fault | times | writes: client | shard | reads: client | shard |",
            "|---|---|---|---|---|---|",
        ]
        for kind, (number, cost) in self.worst().items():
            cells = " | ".join(f"{each:.1f} s" for each in cost)
            rows.append(f"| {kind} | {number} | {cells} |")
        return "\n".join(rows)
