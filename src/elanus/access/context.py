"""What is known of one call beside its request."""

from collections.abc import Mapping
from typing import Any

import msgspec

from elanus.model.catalog import DEFAULT_DATABASE


class CallContext(msgspec.Struct, kw_only=True):
    """One call. Handlers write into ``collection`` and ``stages`` what metrics and the slow-query
    log should tell.

    database: the request's ``db_name``, else the metadata's ``dbname``, else ``default``.
    identifier: what Connect gave this client; 0 if it sent none.
    started_s, deadline_s: on the monotonic clock; no deadline is None.
    stages: seconds by stage.
    body: of a search that came as bytes, these; ``again``: the earlier one that it repeats, see
    ``dql.repeated``.
    """

    method: str
    database: str = DEFAULT_DATABASE
    identifier: int = 0
    request_id: str = ""
    user_agent: str = ""
    started_s: float = 0.0
    deadline_s: float | None = None
    collection: str = ""
    stages: dict[str, float] = msgspec.field(default_factory=dict)
    body: bytes = b""
    again: Any = None

    def remaining_s(self, now_s: float) -> float | None:
        """Seconds until the deadline, not less than 0; None without one."""
        return None if self.deadline_s is None else max(0.0, self.deadline_s - now_s)


def make_context(
    method: str,
    request: Any,
    metadata: Mapping[str, str],
    *,
    now_s: float,
    timeout_s: float | None,
) -> CallContext:
    """The context of a call: ``metadata`` with lower-case keys, ``timeout_s`` seconds left."""
    identifier = metadata.get("identifier", "")
    return CallContext(
        method=method,
        database=getattr(request, "db_name", "") or metadata.get("dbname") or DEFAULT_DATABASE,
        identifier=int(identifier) if identifier.isascii() and identifier.isdigit() else 0,
        request_id=metadata.get("client-request-id", ""),
        user_agent=metadata.get("user-agent", ""),
        started_s=now_s,
        deadline_s=None if timeout_s is None else now_s + timeout_s,
        collection=getattr(request, "collection_name", "") or "",
    )
