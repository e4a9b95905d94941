"""The direct binding: roles of one process call each other's methods, nothing is serialised."""

import os
import socket
from collections.abc import Sequence

from elanus.errors import Unavailable
from elanus.model.resource_groups import QueryNodeInfo
from elanus.services.interfaces import DataNodeService, QueryNodeService, StreamingService

IN_THIS_PROCESS = "localhost"


class DirectRouter:
    """Implements ``services.routing.Router`` for a process that hosts all roles.

    The roles need the router and the router needs them: it is built first and filled once.
    ``node_id`` stands for all of them; it is another one in every life of the process.
    """

    def __init__(self, node_id: int, memory_bytes: int = 0) -> None:
        self.node_id = node_id
        self._infos = [
            QueryNodeInfo(
                node_id=node_id,
                address=IN_THIS_PROCESS,
                host=socket.gethostname(),
                memory_bytes=memory_bytes,
                cores=os.cpu_count() or 1,
            )
        ]
        self._streaming: StreamingService | None = None
        self._query: QueryNodeService | None = None
        self._data: DataNodeService | None = None

    def bind(
        self, streaming: StreamingService, query: QueryNodeService, data: DataNodeService
    ) -> None:
        self._streaming, self._query, self._data = streaming, query, data

    async def streaming_node(self, vchannel: str) -> StreamingService:
        if self._streaming is None:
            raise Unavailable(f"the owner of {vchannel} is starting")
        return self._streaming

    async def streaming_node_by_id(self, node_id: int) -> StreamingService:
        if self._streaming is None or node_id != self.node_id:
            raise Unavailable(f"streaming node {node_id} is not here")
        return self._streaming

    async def streaming_nodes(self) -> list[int]:
        return [self.node_id]

    async def query_node(self, node_id: int) -> QueryNodeService:
        if self._query is None or node_id != self.node_id:
            raise Unavailable(f"query node {node_id} is not here")
        return self._query

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        return [self.node_id]

    async def query_node_infos(self) -> Sequence[QueryNodeInfo]:
        return self._infos

    async def data_node(self) -> DataNodeService:
        if self._data is None:
            raise Unavailable("the data node is starting")
        return self._data
