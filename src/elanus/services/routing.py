"""Who serves what. Each role asks its router; a binding answers with objects or RPC stubs."""

from collections.abc import Sequence
from typing import Protocol

from elanus.model.resource_groups import QueryNodeInfo
from elanus.services.interfaces import DataNodeService, QueryNodeService, StreamingService


class Router(Protocol):
    """Raises Unavailable if nobody serves what is asked for now."""

    async def streaming_node(self, vchannel: str) -> StreamingService:
        """The owner of the vchannel's pchannel, which is the shard's delegator too."""
        ...

    async def streaming_node_by_id(self, node_id: int) -> StreamingService: ...

    async def streaming_nodes(self) -> list[int]:
        """Ids of the streaming nodes that take pchannels, ascending."""
        ...

    async def query_node(self, node_id: int) -> QueryNodeService: ...

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        """Ids of the query nodes that take segments, ascending; with ``stopping`` those too that
        only serve what they hold."""
        ...

    async def query_node_infos(self) -> Sequence[QueryNodeInfo]:
        """Every query node that is alive, by id; the same object as long as nothing changed."""
        ...

    async def data_node(self) -> DataNodeService:
        """A data node with room for a task."""
        ...
