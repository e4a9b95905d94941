"""The RESTful API over real handlers, or over handlers that only remember what they were asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from elanus.access.context import CallContext
from elanus.access.dispatch import Dispatcher
from elanus.access.proxy import Proxy
from elanus.access.rest.app import RestApp
from elanus.wire.protocol import methods


class Silent:
    def observe(self, *_: Any) -> None:
        pass


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.content)


class Client:
    """Speaks ASGI to a RestApp: ``answer = await client("entities/query", {...})``."""

    def __init__(self, proxy: Proxy, handlers: Any, **settings: Any) -> None:
        http = proxy.settings.proxy.http
        if settings:
            http = msgspec.structs.replace(http, **settings)
        self.app = RestApp(proxy, Dispatcher(proxy, handlers, Silent()), http)

    async def send(
        self, method: str, path: str, content: bytes = b"", headers: Any = (), chunk: int = 1 << 30
    ) -> Answer:
        chunks = [content[at : at + chunk] for at in range(0, len(content), chunk)] or [b""]
        sent: list[Any] = []

        async def receive() -> Any:
            body = chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(chunks)}

        async def send(message: Any) -> None:
            sent.append(message)

        raw = [(name.encode(), value.encode()) for name, value in dict(headers).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": raw}
        await self.app(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], answered, sent[1]["body"])

    async def __call__(self, route: str, body: Any, headers: Any = ()) -> Any:
        """The JSON of the answer to a POST."""
        answer = await self.send("POST", f"/v2/vectordb/{route}", orjson.dumps(body), headers)
        return answer.json


@dataclass
class Recorder:
    """Remembers the requests; answers ``answers[method]``, or an empty response."""

    client: Client = None  # type: ignore[assignment]
    requests: list[tuple[str, Any]] = field(default_factory=list)
    databases: list[str] = field(default_factory=list)
    answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict)

    def handler(self, name: str) -> Any:
        async def handle(proxy: Proxy, request: Any, context: CallContext) -> Any:
            self.requests.append((name, request))
            self.databases.append(context.database)
            answer = self.answers.get(name)
            return methods()[name].response() if answer is None else answer(request)

        return handle

    async def __call__(self, route: str, body: Any, headers: Any = ()) -> Any:
        """The JSON of the answer; what was recorded before is forgotten."""
        self.requests.clear()
        return await self.client(route, body, headers)
