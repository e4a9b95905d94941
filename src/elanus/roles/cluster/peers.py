"""Connections to the other processes of the cluster, one for each address."""

import ssl

from elanus.services.rpc.client import Peer


class Peers:
    """Made when first used, kept until the address belongs to nobody."""

    def __init__(self, context: ssl.SSLContext | None = None, server_name: str = "") -> None:
        self._context = context
        self._server_name = server_name
        self._peers: dict[str, Peer] = {}

    def at(self, address: str) -> Peer:
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = Peer(address, self._context, self._server_name)
        return peer

    async def keep_only(self, addresses: set[str]) -> None:
        gone = [address for address in self._peers if address not in addresses]
        for peer in [self._peers.pop(address) for address in gone]:
            await peer.close()

    async def close(self) -> None:
        await self.keep_only(set())
