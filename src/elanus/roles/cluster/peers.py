"""Connections to the other processes of the cluster, one for each address."""

import asyncio
import ssl

from elanus.services.rpc.client import Peer


class Peers:
    """Made when first used, kept until the address belongs to nobody.

    With a ``context`` they speak TLS, and each peer must show a certificate for ``server_name``.
    """

    def __init__(self, context: ssl.SSLContext | None = None, server_name: str = "") -> None:
        self._context = context
        self._server_name = server_name
        self._peers: dict[str, Peer] = {}
        self._former: set[asyncio.Task[None]] = set()

    def at(self, address: str) -> Peer:
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = Peer(address, self._context, self._server_name)
        return peer

    def renew(self, context: ssl.SSLContext) -> None:
        """Connect anew with another certificate; calls that are under way end where they are."""
        self._context = context
        for peer in self._peers.values():
            closing = asyncio.create_task(peer.close_when_idle())
            self._former.add(closing)
            closing.add_done_callback(self._former.discard)
        self._peers = {}

    async def keep_only(self, addresses: set[str]) -> None:
        gone = [address for address in self._peers if address not in addresses]
        for peer in [self._peers.pop(address) for address in gone]:
            await peer.close()

    async def close(self) -> None:
        for closing in list(self._former):
            closing.cancel()
        await asyncio.gather(*self._former, return_exceptions=True)
        await self.keep_only(set())
