"""Comparisons of timestamps: ``t + interval "P1D" < iso "2026-01-01T00:00:00Z"`` and its mirror.

Milvus's grammar has them as a whole, so they are read from the tokens as a whole.
"""

from datetime import tzinfo
from typing import Any

import msgspec

from elanus.engine.filter.expression import AnyLeaf, Compare, Shifted
from elanus.engine.filter.faults import Fault
from elanus.engine.filter.lexer import Token
from elanus.engine.filter.operands import Reference
from elanus.engine.filter.operators import COMPARISONS, FLIPPED
from elanus.model.timestamptz import (
    InvalidTimestamp,
    parse_interval,
    parse_timestamp,
)
from elanus.model.types import DataType


class TimeComparison(msgspec.Struct, frozen=True, gc=False):
    """``name sign interval operator time``; ``interval`` is None if there is none.

    name_at, interval_at, time_at: where they stand in the text.
    """

    name: str
    operator: str
    time: str
    name_at: int
    time_at: int
    interval: str | None = None
    sign: int = 1
    interval_at: int = 0


def read_time(tokens: list[Token], at: int) -> tuple[TimeComparison, int] | None:
    """The comparison that begins at the name ``at`` and where the next token stands; None if none
    does. The last token is the end, so that nothing is read beyond it."""
    time = _labelled(tokens, at, "iso")
    if time is not None:
        operator = tokens[at + 2]
        if not _is_op(operator, COMPARISONS) or tokens[at + 3].kind != "name":
            return None
        return _side(tokens, at + 3, time, FLIPPED[operator.value])
    column = tokens[at]
    after = at + 1
    if _is_op(tokens[after], "+-") and _labelled(tokens, after + 1, "interval") is not None:
        after += 3
    if not _is_op(tokens[after], COMPARISONS):
        return None
    time = _labelled(tokens, after + 1, "iso")
    if time is None:
        return None
    found, _ = _side(tokens, at, time, tokens[after].value)
    assert column.value == found.name
    return found, after + 3


def _side(tokens: list[Token], at: int, time: Token, operator: str) -> tuple[TimeComparison, int]:
    """The side with the column, which begins at ``at``, and where it ends."""
    column, sign, interval = tokens[at], 1, None
    at += 1
    if _is_op(tokens[at], "+-"):
        interval = _labelled(tokens, at + 1, "interval")
        if interval is not None:
            sign = -1 if tokens[at].value == "-" else 1
            at += 3
    return (
        TimeComparison(
            name=column.value,
            operator=operator,
            time=time.value,
            name_at=column.start,
            time_at=time.start,
            interval=None if interval is None else interval.value,
            sign=sign,
            interval_at=0 if interval is None else interval.start,
        ),
        at,
    )


def _is_op(token: Token, values: Any) -> bool:
    return token.kind == "op" and token.value in values


def _labelled(tokens: list[Token], at: int, label: str) -> Token | None:
    """The string of ``label "…"`` at ``at``."""
    word = tokens[at]
    if word.kind != "name" or word.value not in (label, label.upper()):
        return None
    text = tokens[at + 1]
    return text if text.kind == "constant" and type(text.value) is str else None


def bind_time(found: TimeComparison, reference: Reference, zone: tzinfo) -> AnyLeaf:
    """The predicate of a comparison; ``zone`` is that of times without an offset. Raises Fault."""
    column = reference.column
    if column.type is not DataType.TIMESTAMPTZ:
        raise Fault(f"field '{found.name}' is not a timestamptz datatype", found.name_at)
    try:
        value = parse_timestamp(found.time, zone)
    except InvalidTimestamp as error:
        raise Fault(str(error), found.time_at) from error
    if found.interval is None:
        return Compare(column=column, operator=found.operator, value=value)
    try:
        interval = parse_interval(found.interval)
    except InvalidTimestamp as error:
        raise Fault(str(error), found.interval_at) from error
    return Shifted(
        column=column, interval=interval, sign=found.sign, operator=found.operator, value=value
    )
