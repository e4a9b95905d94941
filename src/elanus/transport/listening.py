"""A transport server on a listening socket of ours.

What accepts on it has one certificate for its life, so a renewed one gets another acceptor on the
same socket, and the former one accepts nothing more.
"""

import socket
from abc import abstractmethod
from typing import Generic, TypeVar

from elanus.transport.base import TransportOptions, TransportServer, listen

A = TypeVar("A")


class ListeningServer(TransportServer, Generic[A]):
    """See the module. ``_acceptor``: the one that accepts now, None when stopped."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._listener: socket.socket | None = None
        self._acceptor: A | None = None

    @property
    def address(self) -> tuple[str, int]:
        if self._listener is None:
            return self._options.host, self._options.port
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def rest_address(self) -> tuple[str, int]:
        return self.address

    async def start(self) -> None:
        options = self._options
        self._listener = listen(options.host, options.port, options.reuse_port)
        try:
            self._acceptor = await self._start_acceptor(self._listener)
        except BaseException:
            self._close_listener()
            raise

    async def renew_certificate(self) -> None:
        if self._listener is None or self._acceptor is None:
            return
        former = self._acceptor
        self._acceptor = await self._start_acceptor(self._listener)
        self._retire(former)

    @abstractmethod
    async def _start_acceptor(self, listener: socket.socket) -> A: ...

    @abstractmethod
    def _retire(self, acceptor: A) -> None:
        """Let it accept nothing more."""

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._listener = self._acceptor = None
