"""A topic that is busy for a moment: Pulsar says so with 412, and is asked again.

The server here is a stand-in, since a real one can't be told to be busy.
"""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from elanus.config.storage import PulsarSettings
from elanus.errors import Unavailable
from elanus.runtime.world import World
from elanus.storage.wal._pulsar_admin import TopicBusy
from elanus.storage.wal.pulsar import PulsarWal

UNOWNED = "Failed to find ownership for topic:persistent://public/default/log"
PLACING = "Failed for Subscription Busy: Failed to fence subscription"
CLUSTER = "6f1c1f6e-8f4e-4f1f-9d57-0e6f6a3f7b11"


class Broker(ThreadingHTTPServer):
    """Refuses the first ``refusals`` requests with 412 and ``reason``."""

    refusals = 0
    reason = ""
    requests = 0


class Answers(BaseHTTPRequestHandler):
    server: Broker

    def do_GET(self) -> None:
        self.server.requests += 1
        is_refused = self.server.requests <= self.server.refusals
        body = self.server.reason.encode() if is_refused else b"[]"
        self.send_response(412 if is_refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(("127.0.0.1", 0), Answers) as broker:
        thread = threading.Thread(target=broker.serve_forever)
        thread.start()
        yield broker
        broker.shutdown()
        thread.join()


@pytest.fixture
async def wal(world: World, broker: Broker) -> PulsarWal:
    address = f"http://127.0.0.1:{broker.server_address[1]}"
    return PulsarWal(world, PulsarSettings(web_address=address), "log", CLUSTER)


@pytest.mark.parametrize("reason", [UNOWNED, PLACING])
async def test_it_is_asked_again_until_it_answers(
    wal: PulsarWal, broker: Broker, reason: str
) -> None:
    broker.refusals, broker.reason = 3, reason
    assert await wal.list_channels() == []
    assert broker.requests == 4


async def test_it_is_not_asked_for_ever(
    wal: PulsarWal, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elanus.storage.wal.pulsar._BUSY_ATTEMPTS", 2)
    broker.refusals, broker.reason = 9, UNOWNED
    with pytest.raises(TopicBusy):
        await wal.list_channels()


async def test_another_412_is_an_answer(wal: PulsarWal, broker: Broker) -> None:
    broker.refusals, broker.reason = 9, "Topic name is not valid"
    with pytest.raises(Unavailable, match="412 Topic name is not valid"):
        await wal.list_channels()
    assert broker.requests == 1
