"""Connections to the other processes of the cluster, one for each address."""

import grpc

from elanus.services.rpc.client import Peer


class Peers:
    """Made when first used, kept until the address belongs to nobody."""

    def __init__(self, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._credentials = credentials
        self._peers: dict[str, Peer] = {}

    def at(self, address: str) -> Peer:
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = Peer(address, self._credentials)
        return peer

    async def keep_only(self, addresses: set[str]) -> None:
        gone = [address for address in self._peers if address not in addresses]
        for peer in [self._peers.pop(address) for address in gone]:
            await peer.close()

    async def close(self) -> None:
        await self.keep_only(set())
