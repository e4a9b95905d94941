"""The direct binding: roles of one process call each other's methods, nothing is serialised."""

from elanus.errors import Unavailable
from elanus.services.interfaces import DataNodeService, QueryNodeService, StreamingService

LOCAL_NODE_ID = 1


class DirectRouter:
    """Implements ``services.routing.Router`` for a process that hosts all roles.

    The roles need the router and the router needs them: it is built first and filled once.
    """

    def __init__(self) -> None:
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

    async def query_node(self, node_id: int) -> QueryNodeService:
        if self._query is None or node_id != LOCAL_NODE_ID:
            raise Unavailable(f"query node {node_id} is not here")
        return self._query

    async def query_nodes(self) -> list[int]:
        return [LOCAL_NODE_ID]

    async def data_node(self) -> DataNodeService:
        if self._data is None:
            raise Unavailable("the data node is starting")
        return self._data
