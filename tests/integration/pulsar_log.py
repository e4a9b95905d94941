"""A load on a log in Pulsar, and what a test needs around it.

Run as a program it is a writer that another process freezes or kills: ``python -m
tests.integration.pulsar_log ADDRESS WEB_ADDRESS NAMESPACE TERM``. It prints ``ack NUMBER POSITION``
for each record and ends with ``fenced`` or ``failed``.
"""

import asyncio
import logging
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

import structlog
from tests.services.pulsar import Pulsar
from tests.worlds import make_world

from elanus.config.storage import PulsarSettings
from elanus.errors import FencedWriter, Unavailable
from elanus.runtime.world import World
from elanus.storage.wal.base import Wal
from elanus.storage.wal.pulsar import PulsarWal

CLUSTER = "7a0e7c0c-3b8e-4a51-9b9d-2f6d1c6f5a10"
CHANNEL = "p_0"
RECORD_BYTES = 200
PATIENCE_S = 120
POLL_S = 0.01


def make_namespace(web_address: str, name: str) -> None:
    url = f"{web_address}/admin/v2/namespaces/public/{name}"
    with urllib.request.urlopen(urllib.request.Request(url, method="PUT")):
        pass


def in_new_namespace(server: Pulsar) -> PulsarSettings:
    namespace = f"n{uuid4().hex[:8]}"
    make_namespace(server.http_address, namespace)
    return PulsarSettings(
        address=server.address,
        web_address=server.http_address,
        namespace=namespace,
        request_timeout=30_000,
    )


def unload(settings: PulsarSettings, topic: str) -> None:
    """Have the broker let go of the topic: it begins a new ledger."""
    path = f"/admin/v2/persistent/public/{settings.namespace}/{topic}/unload"
    request = urllib.request.Request(settings.web_address + path, method="PUT")
    with urllib.request.urlopen(request):
        pass


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(int(PATIENCE_S / POLL_S)):
            if await condition():
                return
            await asyncio.sleep(POLL_S)
    raise AssertionError("it did not come to pass")


def open_log(world: World, settings: PulsarSettings) -> PulsarWal:
    return PulsarWal(world, settings, "p", CLUSTER)


def payload(number: int) -> bytes:
    return b"%d:" % number + b"." * RECORD_BYTES


def number_of(record: bytes | memoryview) -> int:
    return int(bytes(record).partition(b":")[0])


async def contents(wal: Wal) -> list[tuple[int, int]]:
    """Position and number of every record."""
    return [(record.position, number_of(record.payload)) async for record in wal.read(CHANNEL)]


@dataclass
class Load:
    """Appends numbered records in groups. After an error it opens the writer again at the same
    term, reads how far the log got, and goes on from there, as the owner of a pchannel does."""

    wal: Wal
    term: int
    group: int = 5
    acknowledged: dict[int, int] = field(default_factory=dict)
    failures: int = 0
    is_ending: bool = False

    async def run(self) -> None:
        while not self.is_ending:
            try:
                writer = await self.wal.open_writer(CHANNEL, self.term)
                found = await contents(self.wal)
                number = found[-1][1] + 1 if found else 0
                while not self.is_ending:
                    numbers = range(number, number + self.group)
                    positions = await writer.append([[payload(n)] for n in numbers])
                    self.acknowledged |= zip(numbers, positions, strict=True)
                    number += self.group
            except Unavailable:
                self.failures += 1

    async def reach(self, count: int) -> None:
        """Wait until so many more records are acknowledged."""
        wanted = len(self.acknowledged) + count

        async def is_reached() -> bool:
            return len(self.acknowledged) >= wanted

        await until(is_reached)

    async def check(self) -> None:
        """Nothing acknowledged is lost, nothing is there twice, everything is in order."""
        found = await contents(self.wal)
        assert [number for _, number in found] == list(range(len(found)))
        positions = [position for position, _ in found]
        assert positions == sorted(set(positions))
        there = {number: position for position, number in found}
        assert {n: there.get(n) for n in self.acknowledged} == self.acknowledged


async def _write(settings: PulsarSettings, term: int) -> None:
    wal = open_log(make_world(seed=None), settings)
    writer = await wal.open_writer(CHANNEL, term)
    number = 0
    try:
        while True:
            for position in await writer.append([[payload(number)]]):
                print("ack", number, position, flush=True)
            number += 1
    except FencedWriter:
        print("fenced", flush=True)
    except Unavailable as error:
        print("failed", error, flush=True)
    await wal.close()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    address, web_address, namespace, term = sys.argv[1:]
    given = PulsarSettings(
        address=address, web_address=web_address, namespace=namespace, request_timeout=10_000
    )
    asyncio.run(_write(given, int(term)))
