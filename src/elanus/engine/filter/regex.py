"""Regular expressions of filters. They are RE2's, so that the time is linear in the text whatever
the expression, and are looked for anywhere in it.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import re2

from elanus.engine.filter.arrays import Bools, truth

KEPT_EXPRESSIONS = 256
MAX_EXPRESSION_BYTES = 256 << 10
"""Of memory that one expression may take, so that compiling it takes a few milliseconds at most."""


@lru_cache(KEPT_EXPRESSIONS)
def finder(expression: str) -> Callable[[str], bool]:
    """Whether the expression is found in a text. Raises ValueError if it isn't one, or if it needs
    more memory than RE2 allows."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_EXPRESSION_BYTES
    try:
        search: Callable[[str], Any] = re2.compile(expression, options).search
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(text) from None
    return lambda value: search(value) is not None


def found_in(expression: str, column: pa.Array) -> Bools:
    """In which texts the expression is found, bool (rows,); arbitrary for nulls."""
    try:
        return truth(pc.match_substring_regex(column, expression))
    except pa.ArrowInvalid:
        # Another version of RE2, whose limits may differ.
        is_found = finder(expression)
        texts = (value is not None and is_found(value) for value in column.to_pylist())
        return np.fromiter(texts, np.bool_, len(column))
