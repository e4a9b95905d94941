"""One request to the RESTful API, as its route sees it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from elanus.access.ddl import names
from elanus.access.dispatch import Dispatcher, HandlerFunction
from elanus.access.proxy import Proxy
from elanus.access.rest.bodies import Body
from elanus.access.rest.errors import RpcFailure
from elanus.model.catalog import CollectionInfo
from elanus.wire.protocol import methods
from elanus.wire.status import status_of

T = TypeVar("T")

OFFLOAD_BYTES = 256 * 1024
"""Bodies and answers from this size on are converted in a thread, not on the event loop."""


@dataclass(slots=True)
class RestCall:
    """database: of the body, else of the header ``DB-Name``, else ``default``. metadata: what RPCs
    get to know of the client. int64_as_text: Int64 values are answered as strings. size_bytes: of
    the body or, once there is one, of the answer if that is larger."""

    proxy: Proxy
    dispatcher: Dispatcher
    body: Body
    database: str
    metadata: Mapping[str, str]
    timeout_s: float
    int64_as_text: bool
    size_bytes: int

    async def rpc(self, method: str, **fields: Any) -> Any:
        """The response of a method to a request with these fields. Raises RpcFailure."""
        return await self.send(method, methods()[method].request(**fields))

    async def send(self, method: str, request: Any, handler: HandlerFunction | None = None) -> Any:
        """The response of a method, or of ``handler`` in its place, to a request message, which
        gets the call's database if it has a place for one and none is set. Raises RpcFailure."""
        if "db_name" in request.DESCRIPTOR.fields_by_name and not request.db_name:
            request.db_name = self.database
        response = await self.dispatcher.call(
            method, request, self.metadata, self.timeout_s, handler
        )
        status = status_of(response)
        if status.code or status.error_code:
            raise RpcFailure(status)
        return response

    async def collection(self) -> CollectionInfo:
        """The collection that the body names, from the proxy's cache."""
        name = self.body.required_text("collectionName")
        name = names.collection_name(name, self.proxy.settings.proxy.max_name_length)
        return await self.proxy.meta.collection(self.database, name)

    async def convert(self, size_bytes: int, function: Callable[[], T]) -> T:
        """Runs a conversion of ``size_bytes``, in a thread if it is large."""
        self.size_bytes = max(self.size_bytes, size_bytes)
        if size_bytes < OFFLOAD_BYTES:
            return function()
        return await self.proxy.world.executor.run("compute", function)
