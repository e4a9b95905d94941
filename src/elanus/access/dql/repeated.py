"""Searches that ask the same as an earlier one, but for their vectors and their instant.

Applications search with the same words again and again. What those mean holds as long as the
collection's metadata, so it is worked out once.
"""

from typing import Any

MAX_KEY_BYTES = 4_096
"""Requests that say more (filters of thousands of keys) would not pay for their place."""


def key_of(request: Any) -> bytes | None:
    """All that a SearchRequest says but its vectors and the timestamp that it wants to reach. Equal
    keys: equal searches of one state of the metadata. None for requests whose meaning is not to be
    remembered: with templates or a highlighter, or by primary keys."""
    if request.WhichOneof("search_input") != "placeholder_group":
        return None
    if request.expr_template_values or request.HasField("highlighter"):
        return None
    vectors, guarantee_ts = request.placeholder_group, request.guarantee_timestamp
    request.ClearField("placeholder_group")
    request.ClearField("guarantee_timestamp")
    key: bytes = request.SerializeToString()
    request.placeholder_group, request.guarantee_timestamp = vectors, guarantee_ts
    return key if len(key) <= MAX_KEY_BYTES else None
