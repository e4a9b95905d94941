"""Pulsar's administration over REST: topics, cursors and sizes. Calls block: for the ``io`` pool.

A broker that does not own a topic answers with the address of the one that does.
"""

import base64
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from elanus.config.storage import PulsarSettings
from elanus.errors import Unavailable
from elanus.storage.wal._pulsar_client import credentials
from elanus.storage.wal._pulsar_frames import Entry

SUBSCRIPTION = "elanus"
MAX_REDIRECTS = 5
MAX_REASON_CHARACTERS = 300
_OK, _NOT_FOUND, _CONFLICT, _PRECONDITION_FAILED = 200, 404, 409, 412
_REDIRECTS = (http.client.TEMPORARY_REDIRECT, http.client.PERMANENT_REDIRECT)
_EARLIEST = {"ledgerId": -1, "entryId": -1}


class TopicBusy(Unavailable):
    """For a moment the topic can't be acted on, as when the first of many processes that start
    together have just asked for it: its bundle of topics is being given to a broker, or another
    call is placing the cursor of the same subscription."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes

    @property
    def reason(self) -> str:
        return self.body.decode(errors="replace")[:MAX_REASON_CHARACTERS]


class PulsarAdmin:
    def __init__(self, settings: PulsarSettings) -> None:
        self._base = settings.web_address.rstrip("/") + "/admin/v2"
        self._namespace = f"{quote(settings.tenant)}/{quote(settings.namespace)}"
        self._timeout_s = settings.request_timeout / 1_000
        self._headers = {"Content-Type": "application/json", **_authorization(settings)}
        handlers: list[urllib.request.BaseHandler] = [
            urllib.request.ProxyHandler({}),
            _NoRedirects(),
        ]
        if settings.web_address.startswith("https"):
            handlers.append(urllib.request.HTTPSHandler(context=_tls_context(settings)))
        self._opener = urllib.request.build_opener(*handlers)

    def ensure_topic(self, topic: str) -> None:
        """Make the topic, and the subscription that keeps its messages from being deleted."""
        path = self._topic_path(topic)
        self._call("PUT", path, allowed=(_CONFLICT,))
        self._call("PUT", f"{path}/subscription/{SUBSCRIPTION}", _EARLIEST, allowed=(_CONFLICT,))

    def last_message(self, topic: str) -> Entry | None:
        """None if there is none, or no such topic."""
        answer = self._call(
            "GET", f"{self._topic_path(topic)}/lastMessageId", allowed=(_NOT_FOUND,)
        )
        if answer.status == _NOT_FOUND:
            return None
        found = orjson.loads(answer.body)
        entry = Entry(found["ledgerId"], found["entryId"])
        return None if entry.entry < 0 else entry

    def release_before(self, topic: str, entry: Entry) -> None:
        """Messages before ``entry`` may be deleted, whole ledgers of them."""
        path = f"{self._topic_path(topic)}/subscription/{SUBSCRIPTION}/resetcursor"
        target = {"ledgerId": entry.ledger, "entryId": entry.entry, "partitionIndex": -1}
        self._call("POST", path, target)

    def list_topics(self) -> list[str]:
        answer = self._call("GET", f"/persistent/{self._namespace}", allowed=(_NOT_FOUND,))
        if answer.status == _NOT_FOUND:
            return []
        return [name.rpartition("/")[2] for name in orjson.loads(answer.body)]

    def size_bytes(self, topic: str) -> int:
        answer = self._call("GET", f"{self._topic_path(topic)}/stats", allowed=(_NOT_FOUND,))
        if answer.status == _NOT_FOUND:
            return 0
        return int(orjson.loads(answer.body)["storageSize"])

    def _topic_path(self, topic: str) -> str:
        return f"/persistent/{self._namespace}/{quote(topic, safe='')}"

    def _call(
        self, method: str, path: str, body: Any = None, *, allowed: tuple[int, ...] = ()
    ) -> _Answer:
        """Raises Unavailable for every status that is neither success nor ``allowed``, among them
        TopicBusy."""
        url = self._base + path
        data = None if body is None else orjson.dumps(body)
        for _ in range(1 + MAX_REDIRECTS):
            request = urllib.request.Request(url, data, dict(self._headers), method=method)
            try:
                with self._opener.open(request, timeout=self._timeout_s) as response:
                    return _Answer(response.status, response.read())
            except urllib.error.HTTPError as error:
                with error:
                    if error.code in _REDIRECTS and (target := error.headers.get("Location")):
                        url = target
                        continue
                    answer = _Answer(error.code, error.read())
                if answer.status in allowed:
                    return answer
                kind = TopicBusy if _is_busy(answer) else Unavailable
                raise kind(
                    f"Pulsar's administration refused {method} {url}: "
                    f"{answer.status} {answer.reason}"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(f"Pulsar's administration at {url}: {error}") from error
        raise Unavailable(
            f"Pulsar's administration sent {method} {self._base + path} on to another broker "
            f"more than {MAX_REDIRECTS} times"
        )


def _is_busy(answer: _Answer) -> bool:
    # The status alone is also that of names that can't be.
    return answer.status == _PRECONDITION_FAILED and any(
        sign in answer.reason for sign in ("ownership", "Subscription Busy")
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """They are followed above, whatever the method."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _authorization(settings: PulsarSettings) -> Mapping[str, str]:
    given = credentials(settings)
    match settings.auth_plugin:
        case "token":
            return {"Authorization": f"Bearer {given['token']}"}
        case "basic":
            pair = f"{given['userId']}:{given['password']}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def _tls_context(settings: PulsarSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.tls_ca_cert or None)
    if settings.auth_plugin == "tls":
        given = credentials(settings)
        context.load_cert_chain(given["tlsCertFile"], given["tlsKeyFile"])
    return context
