"""Canonical texts of parts of a filter: equal keys mean equal results."""

import hashlib
from typing import Any

import numpy as np

LONGEST_KEY = 512
"""Characters; a longer key is replaced by its digest."""


def short_key(text: str) -> str:
    if len(text) <= LONGEST_KEY:
        return text
    return f"#{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def values_key(values: Any) -> str:
    """Of the values of a list."""
    if isinstance(values, tuple):
        return repr(values)
    if len(values) <= LONGEST_KEY // 16:
        return repr(values.tolist())
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(values, np.ndarray):
        digest.update(values.tobytes())
    else:
        for buffer in values.buffers()[1:]:
            digest.update(buffer)
    return f"{len(values)} #{digest.hexdigest()}"
