"""A small client of the RESTful API, for the commands that talk to a running server."""

import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson


class ServerError(Exception):
    """The server answered with an error, or did not answer."""


class RestClient:
    """One connection, kept open. ``uri`` is for example ``http://127.0.0.1:19530``; with
    ``https://`` the server's certificate must be of an authority that the system trusts, or of one
    in the file that the variable SSL_CERT_FILE names."""

    def __init__(self, uri: str, *, timeout_s: float = 60.0) -> None:
        parts = urlsplit(uri if "://" in uri else f"http://{uri}")
        self.uri = f"{parts.scheme}://{parts.hostname}:{parts.port or 19530}"
        secure = parts.scheme == "https"
        connection = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = connection(
            parts.hostname or "127.0.0.1", parts.port or 19530, timeout=timeout_s
        )

    def call(self, route: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST to ``/v2/vectordb/<route>``; gives ``data``. Raises ServerError."""
        content = orjson.dumps(body or {}, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = {"content-type": "application/json"}
        try:
            self._connection.request("POST", f"/v2/vectordb/{route}", content, headers)
            response = self._connection.getresponse()
            answer = orjson.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise ServerError(f"no answer from {self.uri}: {error}") from error
        except orjson.JSONDecodeError as error:
            raise ServerError(f"{self.uri} does not speak Elanus's RESTful API") from error
        if answer.get("code") != 0:
            raise ServerError(f"{route}: {answer.get('message')} (code {answer.get('code')})")
        return answer.get("data")

    def close(self) -> None:
        self._connection.close()
