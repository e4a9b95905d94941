"""A network cable that tests can pull: a TCP proxy on loopback in front of any server.

It copies bytes and knows no protocol. Whatever it is told holds for the connections there are and
for those to come, until ``heal``. Its port stays the same over cuts.
"""

import asyncio
import socket
import struct
from typing import Self

from tests.services.loop_thread import LoopThread
from tests.services.ports import free_port

CHUNK_BYTES = 64 * 1024
CHUNKS_IN_FLIGHT_MAX = 256
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class TcpProxy:
    """Stands in front of ``host:port`` from construction to ``close``."""

    def __init__(self, target: str) -> None:
        self._target_host, _, port = target.rpartition(":")
        self._target_port = int(port)
        self.port = free_port()
        self._delay_s = 0.0
        self._thread = LoopThread("tcp-proxy")
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._listener: asyncio.Server | None = None
        self._thread.run(self._listen())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._thread.run(self._cut())

    def reset_connections(self) -> None:
        """Reset all connections; new ones are welcome."""
        self._thread.run(self._reset())

    def blackhole(self) -> None:
        """Let nothing through in either direction, and tell nobody: connections stay open."""
        self._thread.run(self._stop_flow())

    def delay(self, milliseconds: float) -> None:
        """Hold every piece of data back for this long, in each direction."""
        self._delay_s = milliseconds / 1_000

    def heal(self) -> None:
        """No delay, no hole, new connections welcome; what a black hole held back arrives."""
        self._delay_s = 0.0
        self._thread.run(self._heal())

    def close(self) -> None:
        self._thread.run(self._cut())
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _heal(self) -> None:
        self._flowing.set()
        await self._listen()

    async def _stop_flow(self) -> None:
        self._flowing.clear()

    async def _cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._reset()

    async def _reset(self) -> None:
        tasks = list(self._connections)
        for writers in list(self._connections.values()):
            for writer in writers:
                reset(writer)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ends = self._connections[task] = [writer]
        try:
            await self._flowing.wait()
            await self._join(reader, ends)
        except asyncio.CancelledError:
            pass  # reset by ``_reset``; a server's task that ends cancelled is reported as an error
        finally:
            del self._connections[task]
            for end in ends:
                end.close()

    async def _join(self, reader: asyncio.StreamReader, ends: list[asyncio.StreamWriter]) -> None:
        """Connect to the target and copy both ways; an end that breaks off resets the other."""
        (writer,) = ends
        try:
            there = await asyncio.open_connection(self._target_host, self._target_port)
            ends.append(there[1])
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, there[1]))
                pumps.create_task(self._pump(there[0], writer))
        except* OSError:
            for end in ends:
                reset(end)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Copy until the source ends; each piece waits its delay, but not for the one before."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_IN_FLIGHT_MAX)

        async def read() -> None:
            data = b"-"
            while data:
                data = await source.read(CHUNK_BYTES)
                await queue.put((loop.time(), data))

        async def write() -> None:
            while True:
                arrived, data = await queue.get()
                await asyncio.sleep(max(0.0, arrived + self._delay_s - loop.time()))
                await self._flowing.wait()
                if not data:
                    break
                sink.write(data)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()

        async with asyncio.TaskGroup() as both:
            both.create_task(read())
            both.create_task(write())


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that its other side sees a reset and not an orderly end."""
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
