"""Who serves what in a cluster, from the metadata that says so.

Nodes are known by their sessions, owners of pchannels by the coordinator's records. Both are
followed, never asked for, so a route costs no call. A route may be stale for a moment: then the
node refuses or can't be reached, both are Unavailable, and callers try again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import msgspec
import structlog

from elanus.coordinator.records import PREFIX, PchannelRecord
from elanus.errors import Unavailable
from elanus.model.catalog import pchannel_of
from elanus.model.resource_groups import QueryNodeInfo
from elanus.roles.cluster.peers import Peers
from elanus.runtime.world import World
from elanus.services.cluster.following import PrefixFollower
from elanus.services.cluster.sessions import Membership, SessionInfo
from elanus.services.interfaces import DataNodeService, QueryNodeService, StreamingService
from elanus.services.rpc.client import Peer, stub
from elanus.storage.meta.base import MetaStore

log = structlog.get_logger(__name__)

S = TypeVar("S")

STREAMING, QUERY, DATA = "streaming", "query", "data"
_PCHANNELS = PREFIX + "pchannel/"
LONG_S = 24 * 3600.0
"""Time limit of tasks: they end by their outcome or with their node."""

_STREAMING_TIMEOUTS_S = {"open_pchannel": 600.0, "close_pchannel": 120.0, "update_view": 120.0}
_QUERY_TIMEOUTS_S = {
    "load_segment": 600.0,
    "list_segments": 5.0,
    "apply_deletes": 2.0,
    "mark_segments": 2.0,
}
_DATA_TIMEOUTS_S = dict.fromkeys(
    ("compact", "compact_deltas", "build_index", "import_files", "stamp_segments"), LONG_S
)


class ClusterRouter:
    """Implements ``services.routing.Router``."""

    def __init__(self, world: World, meta: MetaStore, membership: Membership, peers: Peers) -> None:
        self._world = world
        self._membership = membership
        self._peers = peers
        self._owners: dict[str, PchannelRecord] = {}
        self._follower = PrefixFollower(world, meta, _PCHANNELS, self._owner_changed)
        self._tasks_given = 0
        self._stubs: dict[tuple[type, str], tuple[object, Peer]] = {}
        self._query_sessions: list[SessionInfo] | None = None
        self._query_infos: list[QueryNodeInfo] = []

    async def start(self) -> None:
        """Raises Unavailable."""
        await self._follower.start()
        self._membership.listeners.append(self._members_changed)

    async def streaming_node(self, vchannel: str) -> StreamingService:
        record = self._owners.get(pchannel_of(vchannel))
        if record is None:
            raise Unavailable(f"the log of {vchannel} has no owner yet")
        return await self.streaming_node_by_id(record.node_id)

    async def streaming_node_by_id(self, node_id: int) -> StreamingService:
        info = self._node(STREAMING, node_id)
        return self._stub(StreamingService, info.address, _STREAMING_TIMEOUTS_S)

    async def streaming_nodes(self) -> list[int]:
        return self._taking(STREAMING)

    async def query_node(self, node_id: int) -> QueryNodeService:
        info = self._node(QUERY, node_id)
        return self._stub(QueryNodeService, info.address, _QUERY_TIMEOUTS_S)

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        if stopping:
            return [info.node_id for info in self._membership.nodes(QUERY)]
        return self._taking(QUERY)

    async def query_node_infos(self) -> Sequence[QueryNodeInfo]:
        sessions = self._membership.nodes(QUERY)
        if sessions is not self._query_sessions:
            self._query_sessions = sessions
            self._query_infos = [_query_node(info) for info in sessions]
        return self._query_infos

    async def data_node(self) -> DataNodeService:
        nodes = self._taking(DATA)
        if not nodes:
            raise Unavailable("no data node is alive")
        node_id = nodes[self._tasks_given % len(nodes)]
        self._tasks_given += 1
        info = self._node(DATA, node_id)
        return self._stub(DataNodeService, info.address, _DATA_TIMEOUTS_S)

    def _stub(self, interface: type[S], address: str, timeouts_s: Mapping[str, float]) -> S:
        peer = self._peers.at(address)
        known, known_peer = self._stubs.get((interface, address), (None, None))
        if known is None or known_peer is not peer:
            known = stub(interface, peer, timeouts_s)
            self._stubs[interface, address] = known, peer
        return cast(S, known)

    def _taking(self, role: str) -> list[int]:
        return [info.node_id for info in self._membership.nodes(role) if not info.stopping]

    def _node(self, role: str, node_id: int) -> SessionInfo:
        info = self._membership.node(role, node_id)
        if info is None:
            raise Unavailable(f"{role} node {node_id} is gone")
        return info

    def _owner_changed(self, pchannel: str, value: bytes | None) -> None:
        if value is None:
            self._owners.pop(pchannel, None)
        else:
            self._owners[pchannel] = msgspec.json.decode(value, type=PchannelRecord)

    def _members_changed(self, role: str) -> None:
        self._world.tasks.spawn("close peers", self._forget())

    async def _forget(self) -> None:
        await asyncio.sleep(0)
        self._stubs.clear()
        await self._peers.keep_only({info.address for info in self._membership.everyone()})


def _query_node(info: SessionInfo) -> QueryNodeInfo:
    return QueryNodeInfo(
        node_id=info.node_id,
        address=info.address,
        host=info.host,
        memory_bytes=info.memory_bytes,
        cores=info.cores,
        labels=info.labels,
        is_stopping=info.stopping,
    )
