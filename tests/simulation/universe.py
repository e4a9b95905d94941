"""Life after life of one server, as one seed has it: users, bad weather, crashes, and healing.

All lives share the storage and the users. A life ends by a crash (of the process, or of the whole
machine), before a random durable operation or at a random time, maybe while it is still starting;
or by an orderly stop. In the last but one life everything must heal by itself; the last one only
looks whether what was healed is there.
"""

import asyncio
import hashlib
import math
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from elanus.errors import Unavailable
from elanus.model.catalog import IndexInfo
from elanus.model.types import ConsistencyLevel, MetricType
from elanus.runtime.clock import Clock
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.storage.meta.memory import MemoryMetaStore
from elanus.storage.objects.memory import MemoryObjectStore
from tests.simulation.data import NAME, SCHEMA
from tests.simulation.disk import DiskImage
from tests.simulation.faults import Faults, SimulatedClock, SimulatedExecutor, Weather
from tests.simulation.healing import heal, look_again
from tests.simulation.loop import Died, SimulatedLoop
from tests.simulation.oracle import Violation
from tests.simulation.shared import Shared
from tests.simulation.workload import Client
from tests.simulation.world import Server, Storage

DEFAULT_LIVES = 3
LIFE_S = 3.0
CALM_S = 1.0
MAX_ITERATIONS = 400_000
START_PATIENCE_S = 120.0
_ALARMS = ("index file not usable, scanning instead",)


class Universe:
    """``run()`` raises Violation (or whatever the server raised) if the seed finds a fault."""

    def __init__(
        self, seed: int, lives: int = DEFAULT_LIVES, show: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        self.lives = lives
        self._show = show
        self._digest = hashlib.sha256()
        self._loop: SimulatedLoop | None = None
        self._now_s = 0.0
        self._skew_ms = 0
        self._dead = False
        self._failures: list[str] = []
        self.events = 0
        self.direct_searches = 0
        rng = self._rng("users")
        self.shared = Shared(rng.choice([1, 1, 2]), rng.choice([2, 3]), self.trace)
        self.clients = [Client(number, self.shared) for number in range(self.shared.clients)]
        self._index_type = rng.choice(["FLAT", "HNSW", "IVF_FLAT"])

    @property
    def digest(self) -> str:
        """Of everything that has happened so far, with its times and results."""
        return self._digest.hexdigest()

    def trace(self, text: str) -> None:
        if self._dead:
            return
        self.events += 1
        line = f"{self._time_s():12.6f}  {text}"
        self._digest.update(line.encode())
        if self._show is not None:
            self._show(line)

    def run(self) -> None:
        structlog.configure(processors=[self._log], cache_logger_on_first_use=False)
        files = Path(tempfile.mkdtemp(prefix="elanus-simulation-"))
        (files / "scratch").mkdir()
        try:
            base = self._base_world()
            self._storage = Storage(
                DiskImage(self._rng("disk")),
                MemoryMetaStore(base),
                MemoryObjectStore(base),
                files,
                wal=self._rng("wal").choice(["local", "woodpecker"]),
            )
            for life in range(self.lives):
                self._live(life, self._trouble)
            self._live(self.lives, self._healing)
            self._live(self.lives + 1, self._looking)
        finally:
            shutil.rmtree(files)
            structlog.reset_defaults()

    # --- lives ----------------------------------------------------------------------------------

    def _live(self, life: int, plan: Callable[[Server, random.Random], Any]) -> None:
        rng = self._rng(f"life {life}")
        loop = self._loop = SimulatedLoop(self._now_s)
        self._dead = False
        is_troubled = life < self.lives
        ending = rng.choice(["stop", "operation", "operation", "time"]) if is_troubled else "stop"
        die_at = int(rng.choice([20, 300, 1500]) * rng.random()) if ending == "operation" else -1
        faults = Faults(self._rng(f"faults {life}"), self.trace, self._kill, die_at)
        if ending == "time":
            loop.call_later(rng.random() * LIFE_S, faults.die, "at this time")
        self.trace(f"life {life} begins")
        server = Server(
            self._storage, faults, self._rng(f"world {life}"), loop.time, self._task_failed
        )
        # The wall clock may have stepped back while nobody was looking.
        server.clock.skew_ms = self._skew_ms - rng.choice([0, 0, 2_000])
        self.shared.releasing = 0
        for client in self.clients:
            client.begin_life(server, self._rng(f"client {client.number} {life}"))
        try:
            loop.run_until_complete(self._guarded(loop, plan(server, rng)))
        except Died:
            pass
        finally:
            crashed, self._dead, faults.dead = faults.dead, True, True
            self.direct_searches += server.direct_searches
            self._now_s = loop.time() + rng.random()
            self._skew_ms = server.clock.skew_ms
            asyncio.set_event_loop(None)
            with _silent_finalizers():
                loop.abandon()
        if crashed and rng.random() < 0.7:
            self._storage.disk.crash()
        if self._failures:
            raise Violation(f"background tasks failed: {self._failures}")

    async def _guarded(self, loop: SimulatedLoop, plan: Coroutine[Any, Any, None]) -> None:
        watcher = asyncio.ensure_future(_watch(loop))
        main = asyncio.ensure_future(plan)
        await asyncio.wait([watcher, main], return_when=asyncio.FIRST_COMPLETED)
        watcher.cancel()
        main.cancel()
        await (main if main.done() else watcher)

    async def _trouble(self, server: Server, rng: random.Random) -> None:
        """Users at work in bad weather, until the time is up."""
        try:
            await server.start()
        except Unavailable as error:
            self.trace(f"did not start: {type(error).__name__}")
            return
        tasks = [
            asyncio.ensure_future(self._client_loop(client, server)) for client in self.clients
        ]
        tasks.append(asyncio.ensure_future(self._weather(server, rng)))
        await asyncio.wait(
            tasks, timeout=LIFE_S * (0.5 + rng.random()), return_when=asyncio.FIRST_EXCEPTION
        )
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        await self._stop(server)

    async def _healing(self, server: Server, rng: random.Random) -> None:
        await server.start()
        await self._set_up(server)
        until_s = self._time_s() + CALM_S
        await asyncio.gather(*(self._client_loop(c, server, until_s) for c in self.clients))
        await heal(server, self.clients, self.shared)
        await self._stop(server)

    async def _looking(self, server: Server, rng: random.Random) -> None:
        await server.start()
        await look_again(server, self.clients, self.shared)
        await self._stop(server)

    async def _stop(self, server: Server) -> None:
        server.faults.weather = Weather()
        await server.stop()
        self.trace("stopped")

    async def _client_loop(self, client: Client, server: Server, until_s: float = math.inf) -> None:
        await self._set_up(server)
        while self._time_s() < until_s:
            await client.step()

    async def _set_up(self, server: Server) -> None:
        """The collection is there, indexed and loaded; whoever comes first makes it."""
        client, coordinator = self.clients[0], server.coordinator
        info = (
            await client.patiently(
                "create collection",
                lambda: coordinator.create_collection(
                    "default",
                    SCHEMA,
                    shards=self.shared.shards,
                    partitions=0,
                    consistency_level=ConsistencyLevel.STRONG,
                    properties={},
                ),
            )
            if self._is_new
            else None
        )
        if info is None:
            return
        index = IndexInfo(
            index_id=0,
            collection_id=info.collection_id,
            field_name="vector",
            name="vector",
            index_type=self._index_type,
            metric_type=MetricType.L2,
            created_ts=0,
            params={"M": "8", "efConstruction": "64", "nlist": "4"},
        )
        await client.patiently("create index", lambda: coordinator.create_index(index))
        await client.patiently("load", lambda: coordinator.load(info.collection_id, (), 1))
        self._is_new = False
        self.trace(f"{NAME} is set up")

    _is_new = True

    async def _weather(self, server: Server, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(rng.random() * 4)
            kind = rng.choice(["errors", "losses", "full", "slow", "clock", "all"])
            weather = Weather()
            if kind in ("errors", "all"):
                weather.error_rate = rng.choice([0.02, 0.1, 0.5])
            if kind in ("losses", "all"):
                weather.lost_reply_rate = rng.choice([0.02, 0.1, 0.3])
            if kind in ("slow", "all"):
                weather.max_delay_s = rng.choice([0.1, 0.5])
            weather.disk_full = kind == "full"
            if kind == "clock":
                server.clock.skew_ms -= rng.choice([1, 100, 5_000])
            server.faults.weather = weather
            self.trace(f"weather: {kind}")
            await asyncio.sleep(rng.random() * 3)
            server.faults.weather = Weather()
            self.trace("weather: fair")

    # --- helpers --------------------------------------------------------------------------------

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self.seed} {purpose}")

    def _time_s(self) -> float:
        return self._now_s if self._loop is None else self._loop.time()

    def _kill(self, reason: str) -> None:
        assert self._loop is not None
        self._loop.kill(reason)

    def _base_world(self) -> World:
        """For the storage, which belongs to no process."""
        faults = Faults(random.Random(0), self.trace, self._kill)
        clock: Clock = SimulatedClock(self._time_s, asyncio.sleep)
        return World(
            clock=clock,
            random=random.Random(0),
            executor=SimulatedExecutor(faults, asyncio.sleep),  # type: ignore[arg-type]
            tasks=TaskSupervisor(),
            failpoints=Failpoints(),
            memory=MemoryLedger(1 << 30),
        )

    def _task_failed(self, name: str, error: BaseException) -> None:
        if not self._dead and not isinstance(error, Died):
            self._failures.append(f"{name}: {type(error).__name__}: {error}")

    def _log(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        if not self._dead:
            if event["event"] in _ALARMS:
                self._failures.append(str(event))
            if self._show is not None:
                details = {key: value for key, value in event.items() if key != "event"}
                self._show(f"{self._time_s():12.6f}    {method}: {event['event']} {details}")
        raise structlog.DropEvent


@contextmanager
def _silent_finalizers() -> Iterator[None]:
    """What the tasks of a dead process say when they are collected is no news."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        sys.unraisablehook = before


async def _watch(loop: SimulatedLoop) -> None:
    while loop.iterations < MAX_ITERATIONS:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(1.0)
    raise Violation(f"{MAX_ITERATIONS} turns of the event loop in one life: something spins")
