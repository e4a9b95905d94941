"""Numbers in JSON strings: what STRING_TO_DOUBLE makes of a value.

Where an index of a path is defined with that function, comparisons of the path with numbers read
strings that are one number as this number. That is so for every row, indexed already or not.
"""

import math
from typing import Any

import orjson

STRING_TO_DOUBLE = "STRING_TO_DOUBLE"
_BEGINNINGS = frozenset("-0123456789 \t\r\n")


def as_double(value: Any) -> Any:
    """The number that a string is, as a double; everything else as it is."""
    if type(value) is not str or value[:1] not in _BEGINNINGS:
        return value
    try:
        number = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    if type(number) not in (int, float):
        return value
    double = float(number)
    return double if math.isfinite(double) else value
