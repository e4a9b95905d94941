"""The slow reference: a filter evaluated row by row in three-valued logic, on plain Python values.

A filter is a nested tuple, rendered to text by ``render`` and decided by ``decide``, which knows
neither Arrow nor the parser. None stands for unknown.
"""

import re
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import numpy as np

MISSING = object()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OPERATORS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}

MEMBERS = {"$[n]": "int64", "$[w]": "string"}
"""What predicates on the elements of the array of structs read, with its type."""

EXPRESSIONS = {
    "": "",
    "a": "a",
    "^a": "^a",
    "b$": r"b\Z",
    "^$": r"^\Z",
    "a.b": "a.b",
    "[ab]{2,}": "[ab]{2,}",
    "(?i)A|%": "(?i)A|%",
    r"(?s)a.*b\z": r"(?s)a.*b\Z",
    r"\d": "[0-9]",
    r"\\": r"\\",
}
"""Regular expressions as filters have them, and as Python does."""


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return repr(value)


def render(tree: tuple) -> str:
    kind, *rest = tree
    if kind in ("and", "or"):
        return f" {kind} ".join(f"({render(child)})" for child in rest)
    if kind == "not":
        return f"not ({render(rest[0])})"
    column = rest[0]
    if kind == "elements":
        _, quantifier, threshold, inner = rest
        limit = "" if quantifier in ("any", "all") else f", threshold={threshold}"
        return f"match_{quantifier}({column[0]}, {render(inner)}{limit})"
    name = column[0] + "".join(f"[{literal(step)}]" for step in column[1:])
    if kind == "compare":
        return f"{name} {rest[1]} {literal(rest[2])}"
    if kind == "flipped":
        return f"{literal(rest[2])} {rest[1]} {name}"
    if kind == "range":
        _, low, first, second, high = rest
        return f"{literal(low)} {first} {name} {second} {literal(high)}"
    if kind == "in":
        return f"{name} {'not in' if rest[2] else 'in'} {literal(rest[1])}"
    if kind == "like":
        return f"{name} like {literal(rest[1])}"
    if kind == "matches":
        return f"{name} =~ {literal(rest[1])}"
    if kind == "arithmetic":
        return f"{name} {rest[1]} {literal(rest[2])} {rest[3]} {literal(rest[4])}"
    if kind == "columns":
        return f"{name} {rest[1]} {rest[2]}"
    if kind == "null":
        return f"{name} is {'not ' if rest[1] else ''}null"
    if kind == "exists":
        return f"exists {name}"
    if kind == "length":
        return f"array_length({name}) {rest[1]} {rest[2]}"
    if kind == "time":
        _, step, operator, moment = rest
        shift = "" if step is None else f' {step[0]} interval "P{step[1]}M{step[2]}DT{step[3]}H"'
        return f'{name}{shift} {operator} iso "{EPOCH + timedelta(microseconds=moment)}"'
    if kind == "match":
        return f"text_match({name}, {literal(rest[1])}, minimum_should_match={rest[2]})"
    if kind == "phrase":
        return f"phrase_match({name}, {literal(rest[1])}, {rest[2]})"
    if kind == "box":
        _, relation, (x, y), (width, height) = rest
        right, top = x + width, y + height
        ring = f"{x} {y}, {right} {y}, {right} {top}, {x} {top}, {x} {y}"
        return f"st_{relation}({name}, 'POLYGON(({ring}))')"
    suffix = {"contains": "", "contains_any": "_any", "contains_all": "_all"}[kind]
    return f"array_contains{suffix}({name}, {literal(rest[1])})"


def decide(tree: tuple, row: dict[str, Any], types: dict[str, str]) -> bool | None:
    """True, False or None (unknown). types: name → int8…int64, float, double, bool, string, json,
    ``[]int64`` and the like."""
    kind, *rest = tree
    if kind == "not":
        inner = decide(rest[0], row, types)
        return None if inner is None else not inner
    if kind in ("and", "or"):
        results = [decide(child, row, types) for child in rest]
        decisive = kind == "or"
        if decisive in results:
            return decisive
        return None if None in results else not decisive
    if kind == "elements":
        return decide_elements(rest, row)
    name, *path = rest[0]
    value, column_type = row[name], types[name]
    if kind == "exists" or (kind == "null" and path):
        present = value is not None and not hollow(follow(value, path))
        return present if kind == "exists" else present == rest[1]
    if kind == "null":
        return (value is not None) == rest[1]
    if value is None:
        return None
    if kind == "columns":
        other = row[rest[2]]
        return None if other is None else bool(OPERATORS[rest[1]](value, other))
    if kind in ("time", "match", "phrase", "box"):
        return {"time": decide_time, "match": matches, "phrase": has_phrase, "box": in_box}[kind](
            value, *rest[1:]
        )
    if column_type.startswith("[]"):
        return decide_array(kind, value, path, rest, column_type[2:])
    if column_type == "json":
        return decide_json(kind, follow(value, path), rest)
    return decide_value(kind, value, rest, column_type)


def decide_elements(rest: list, row: dict[str, Any]) -> bool | None:
    (struct,), quantifier, threshold, inner = rest
    parts = {name: row[f"{struct}{name[1:]}"] for name in MEMBERS}
    if None in parts.values():
        return None
    each = [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
    count = sum(decide(inner, element, MEMBERS) is True for element in each)
    return {
        "any": count > 0,
        "all": count == len(each),
        "least": count >= threshold,
        "most": count <= threshold,
        "exact": count == threshold,
    }[quantifier]


def decide_value(kind: str, value: Any, rest: list, column_type: str) -> bool:
    def fit(constant: Any) -> Any:
        if column_type == "float":
            with np.errstate(over="ignore"):
                return float(np.float32(constant))
        return float(constant) if column_type == "double" else constant

    if kind == "compare":
        return OPERATORS[rest[1]](value, fit(rest[2]))
    if kind == "flipped":
        return OPERATORS[rest[1]](fit(rest[2]), value)
    if kind == "range":
        _, low, first, second, high = rest
        return OPERATORS[first](fit(low), value) and OPERATORS[second](value, fit(high))
    if kind == "in":
        return (value in [fit(item) for item in rest[1]]) != rest[2]
    if kind == "like":
        return like(value, rest[1])
    if kind == "matches":
        return re.search(EXPRESSIONS[rest[1]], value) is not None
    assert kind == "arithmetic"
    result = calculate(value, rest[1], fit(rest[2]), column_type)
    return OPERATORS[rest[3]](result, fit(rest[4]))


def calculate(value: Any, operator: str, operand: Any, column_type: str) -> Any:
    if column_type == "float":
        with np.errstate(all="ignore"):
            left, right = np.float32(value), np.float32(operand)
            results = {"+": left + right, "-": left - right, "*": left * right}
            return float(left / right if operator == "/" else results[operator])
    if operator == "+":
        result = value + operand
    elif operator == "-":
        result = value - operand
    elif operator == "*":
        result = value * operand
    elif isinstance(value, float) or isinstance(operand, float):
        return value / operand
    else:
        # C's division truncates toward zero.
        sign = -1 if (value < 0) != (operand < 0) else 1
        quotient = sign * (abs(value) // abs(operand))
        result = quotient if operator == "/" else value - quotient * operand
    if column_type.startswith("int"):
        result = (result + 2**63) % 2**64 - 2**63
    return result


def like(value: str, pattern: str) -> bool:
    regex, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\" and at + 1 < len(pattern):
            at += 1
            regex += re.escape(pattern[at])
        else:
            regex += {"%": ".*", "_": "."}.get(character, re.escape(character))
        at += 1
    return re.fullmatch(regex, value, re.DOTALL) is not None


def decide_array(kind: str, value: list, path: list, rest: list, item: str) -> bool:
    def has(constant: Any) -> bool:
        return any(
            decide_value("compare", element, [None, "==", constant], item) for element in value
        )

    if path:
        # An index past the end makes everything false, even `!=`; `not in` is the negation of `in`.
        inside = path[0] < len(value)
        if kind == "in":
            return (
                inside and decide_value("in", value[path[0]], [*rest[:2], False], item)
            ) != rest[2]
        return inside and decide_value(kind, value[path[0]], rest, item)
    if kind == "length":
        return OPERATORS[rest[1]](len(value), rest[2])
    if kind == "contains":
        return has(rest[1])
    if kind == "contains_any":
        return any(map(has, rest[1]))
    if kind == "contains_all":
        return all(map(has, rest[1]))

    def same(constant: list) -> bool:
        return len(value) == len(constant) and all(
            decide_value("compare", a, [None, "==", b], item)
            for a, b in zip(value, constant, strict=True)
        )

    if kind == "in":
        return any(map(same, rest[1])) != rest[2]
    assert kind == "compare"
    return same(rest[2]) == (rest[1] == "==")


def follow(document: Any, path: list) -> Any:
    for step in path:
        if isinstance(document, dict) and str(step) in document:
            document = document[str(step)]
        elif isinstance(document, list) and str(step).isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return MISSING
    return document


def hollow(value: Any) -> bool:
    if value is MISSING or value is None:
        return True
    if isinstance(value, dict | list):
        return all(hollow(v) for v in (value.values() if isinstance(value, dict) else value))
    return False


def family(value: Any) -> str:
    for kind, name in ((bool, "bool"), (int | float, "number"), (str, "string"), (list, "list")):
        if isinstance(value, kind):
            return name
    return "other"


def json_equal(value: Any, constant: Any) -> bool:
    if family(value) != family(constant) or family(value) == "other":
        return False
    if isinstance(constant, list):
        return len(value) == len(constant) and all(map(json_equal, value, constant))
    return value == constant


def decide_json(kind: str, value: Any, rest: list) -> bool:
    if kind == "compare" and rest[1] in ("==", "!="):
        return json_equal(value, rest[2]) == (rest[1] == "==")
    if kind in ("compare", "flipped"):
        if family(value) != family(rest[2]):
            return kind == "flipped" and rest[1] == "!="
        return decide_value(kind, value, rest, "json")
    if kind == "range":
        return family(value) == family(rest[1]) and decide_value(kind, value, rest, "json")
    if kind == "in":
        return any(json_equal(value, constant) for constant in rest[1]) != rest[2]
    if kind == "like":
        return isinstance(value, str) and like(value, rest[1])
    if kind == "matches":
        return isinstance(value, str) and decide_value(kind, value, rest, "json")
    if kind == "arithmetic":
        if family(value) != "number":
            return rest[3] == "!="
        return decide_value(kind, value, rest, "json")
    if kind == "length":
        return OPERATORS[rest[1]](len(value) if isinstance(value, list) else 0, rest[2])
    if kind == "contains":
        return isinstance(value, list) and any(json_equal(v, rest[1]) for v in value)
    found = [
        isinstance(value, list) and any(json_equal(v, constant) for v in value)
        for constant in rest[1]
    ]
    return any(found) if kind == "contains_any" else all(found)


def decide_time(value: int, step: tuple | None, operator: str, moment: int) -> bool:
    if step is not None:
        sign = -1 if step[0] == "-" else 1
        civil = EPOCH + timedelta(seconds=value // 10**6)
        months = civil.year * 12 + civil.month - 1 + sign * step[1]
        first = civil.replace(year=months // 12, month=months % 12 + 1, day=1)
        moved = first + timedelta(days=civil.day - 1 + sign * step[2], hours=sign * step[3])
        value = int((moved - EPOCH).total_seconds()) * 10**6
    return OPERATORS[operator](value, moment)


def tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def matches(value: str, query: str, minimum: int) -> bool:
    wanted, there = tokens(query), tokens(value)
    return bool(wanted) and sum(token in there for token in wanted) >= minimum


def has_phrase(value: str, query: str, slop: int) -> bool:
    wanted, there = tokens(query), tokens(value)
    places = [
        [at - rank for at, t in enumerate(there) if t == token] for rank, token in enumerate(wanted)
    ]
    return bool(wanted) and any(max(choice) - min(choice) <= slop for choice in product(*places))


def in_box(value: tuple, relation: str, low: tuple, size: tuple) -> bool:
    """Of a point and a closed box."""
    (x, y), (left, bottom) = value, low
    right, top = left + size[0], bottom + size[1]
    inside = left < x < right and bottom < y < top
    touched = left <= x <= right and bottom <= y <= top
    return {"within": inside, "intersects": touched, "touches": touched and not inside}[relation]
