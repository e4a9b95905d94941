"""A TCP proxy that loses answers: what a client sends arrives, and the client never hears of it.

The window in which an append is on disk but not acknowledged is too short to hit by chance.
"""

import asyncio

_CHUNK_BYTES = 1 << 16


class LossyProxy:
    """``is_deaf``: what the server answers is lost."""

    def __init__(self, port: int, target_port: int) -> None:
        self.is_deaf = False
        self._port = port
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    def cut(self) -> None:
        """Reset all connections; new ones are served."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, target[1]}
        self._writers |= ends
        await asyncio.gather(
            self._forward(reader, target[1], is_answer=False),
            self._forward(target[0], writer, is_answer=True),
        )
        self._writers -= ends

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                if not (is_answer and self.is_deaf):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
