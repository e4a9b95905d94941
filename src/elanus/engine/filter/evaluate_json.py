"""Predicates on JSON: each tree of them becomes one test of a parsed document.

A path that leads nowhere, or to a value of another type than the constant's, makes a comparison
false and *known*: its negation is true. Only a null row is unknown. Numbers compare by value
whether they are stored as integers or not; bools, strings and numbers never equal each other.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import orjson
import pyarrow as pa

from elanus.engine.filter.arrays import Bools, offsets_of, validity
from elanus.engine.filter.constants import calculate, compare
from elanus.engine.filter.expression import (
    And,
    Arithmetic,
    Between,
    Compare,
    Contains,
    Exists,
    In,
    Leaf,
    Length,
    Like,
    Matches,
    Node,
    Or,
)
from elanus.engine.filter.json_cast import as_double
from elanus.engine.filter.json_scan import MIN_ROWS, scan_tree
from elanus.engine.filter.regex import finder
from elanus.errors import CorruptData, InternalError

Test: TypeAlias = Callable[[Any], bool]

MISSING = object()


def document_truth(tree: Node, column: pa.Array, name: str) -> Bools:
    """Which documents of a binary column pass ``tree``, whose leaves all read that column.

    Raises CorruptData for text that isn't JSON, if it must be parsed.
    """
    test = _tree_test(tree)
    result = np.zeros(len(column), np.bool_)
    unsure: Bools | None = None
    if len(column) >= MIN_ROWS:
        result, unsure = scan_tree(tree, column, _without_value)
    offsets = offsets_of(column)
    data = column.buffers()[2] if len(column) else None
    text = memoryview(data if data is not None else b"")
    valid = validity(column)
    wanted = np.ones(len(column), np.bool_) if unsure is None else unsure
    if valid is not None:
        result[~valid] = _on_null_row(tree)
        wanted = wanted & valid
    rows = np.flatnonzero(wanted)
    places = zip(rows.tolist(), offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
    loads = orjson.loads
    try:
        for row, start, end in places:
            if test(loads(text[start:end])):
                result[row] = True
    except orjson.JSONDecodeError as error:
        raise CorruptData(f"field {name} holds text that isn't JSON: {error}") from error
    return result


def _without_value(leaf: Leaf) -> bool:
    return _VALUE_TESTS[type(leaf)](leaf)(MISSING)


def _on_null_row(tree: Node) -> bool:
    """The tree's truth on a null row: ``exists`` is false there, everything else unknown."""
    if isinstance(tree, And | Or):
        decisive = isinstance(tree, Or)
        for child in tree.children:  # a plain loop: one frame for each level
            if _on_null_row(child) == decisive:
                return decisive
        return not decisive
    return isinstance(tree, Exists) and tree.negated


# Tests --------------------------------------------------------------------------------------------


def _tree_test(tree: Node) -> Test:
    if isinstance(tree, And | Or):
        tests = []
        for child in tree.children:
            tests.append(_tree_test(child))  # noqa: PERF401 (a comprehension is a frame more)
        return _all_of(tests) if isinstance(tree, And) else _any_of(tests)
    assert isinstance(tree, Leaf)
    path, test = tree.column.path, _VALUE_TESTS[type(tree)](tree)
    if tree.column.cast and isinstance(tree, Compare | Between | In):
        test = _or_as_double(test)
    if len(path) == 1:
        return _at_key(path[0], test, tree.negated)
    return _at_path(path, test, tree.negated)


def _all_of(tests: list[Test]) -> Test:
    def test(document: Any) -> bool:
        for part in tests:  # noqa: SIM110 (runs for every row; a generator costs twice as much)
            if not part(document):
                return False
        return True

    return test


def _any_of(tests: list[Test]) -> Test:
    def test(document: Any) -> bool:
        for part in tests:  # noqa: SIM110
            if part(document):
                return True
        return False

    return test


def _or_as_double(test: Test) -> Test:
    return lambda value: test(value) or (type(value) is str and test(as_double(value)))


def _at_key(key: str, test: Test, negated: bool) -> Test:
    def at_key(document: Any) -> bool:
        if type(document) is dict:
            return test(document.get(key, MISSING)) != negated
        return test(step(document, key)) != negated

    return at_key


def _at_path(path: tuple[str, ...], test: Test, negated: bool) -> Test:
    def at_path(document: Any) -> bool:
        for key in path:
            document = step(document, key)
        return test(document) != negated

    return at_path


def step(value: Any, key: str) -> Any:
    """What a subscript leads to: a key of an object, an index of an array, or MISSING."""
    if type(value) is dict:
        return value.get(key, MISSING)
    if type(value) is list and key.isdecimal() and key.isascii() and len(key) < 19:
        index = int(key)
        if index < len(value) and (key[0] != "0" or key == "0"):
            return value[index]
    return MISSING


# Tests of the value that the path leads to --------------------------------------------------------


def _compare(leaf: Any) -> Test:
    wanted, operator = leaf.value, leaf.operator
    if operator == "==":
        if type(wanted) is list:
            return lambda value: equal(value, wanted)
        kinds = _kinds_of(wanted)
        return lambda value: type(value) in kinds and value == wanted
    kinds = _kinds_of(wanted)
    return lambda value: type(value) in kinds and compare(operator, value, wanted)


def _kinds_of(constant: Any) -> tuple[type, ...]:
    """The Python types that a constant can be compared to."""
    kind = type(constant)
    return (int, float) if kind in (int, float) else (kind,)


def _between(leaf: Any) -> Test:
    low, high = leaf.low, leaf.high
    kinds = _kinds_of(low)
    above, below = ">=" if leaf.low_closed else ">", "<=" if leaf.high_closed else "<"
    return lambda value: (
        type(value) in kinds and compare(above, value, low) and compare(below, value, high)
    )


def _in(leaf: Any) -> Test:
    found = _finder(leaf.values)
    return lambda value: found(value)


def _finder(wanted: tuple[Any, ...]) -> Test:
    """A test whether a value equals one of ``wanted``."""
    hashed = {
        # True equals 1 in Python, so that the kind is part of the key.
        (type(value) is bool, value)
        for value in wanted
        if type(value) is not list
    }
    lists = [value for value in wanted if type(value) is list]

    def found(value: Any) -> bool:
        kind = type(value)
        if kind is list:
            return any(equal(value, candidate) for candidate in lists)
        if kind is dict or value is MISSING:
            return False
        return (kind is bool, value) in hashed

    return found


def equal(value: Any, wanted: Any) -> bool:
    """Equality of JSON values: numbers by value, bools only with bools, arrays in order."""
    kind = type(wanted)
    if kind is list:
        return type(value) is list and len(value) == len(wanted) and all(map(equal, value, wanted))
    if kind is bool or type(value) is bool:
        return value is wanted
    return bool(value == wanted)


def _like(leaf: Any) -> Test:
    matches = leaf.pattern.matches
    return lambda value: type(value) is str and matches(value)


def _matches(leaf: Any) -> Test:
    is_found = finder(leaf.expression)
    return lambda value: type(value) is str and is_found(value)


def _arithmetic(leaf: Any) -> Test:
    arithmetic, operand = leaf.arithmetic, leaf.operand
    operator, wanted = leaf.operator, leaf.value

    def test(value: Any) -> bool:
        kind = type(value)
        if kind is not int and kind is not float:
            return False
        if arithmetic == "%":
            value = int(value)
        try:
            return compare(operator, calculate(arithmetic, value, operand), wanted)
        except OverflowError:
            return False

    # A value that isn't a number doesn't equal the constant either.
    if operator != "!=":
        return test
    return lambda value: type(value) not in (int, float) or test(value)


def _length(leaf: Any) -> Test:
    operator, wanted = leaf.operator, leaf.value
    return lambda value: compare(operator, len(value) if type(value) is list else 0, wanted)


def _contains(leaf: Any) -> Test:
    wanted = leaf.values
    if not leaf.every:
        found = _finder(wanted)
        return lambda value: type(value) is list and any(map(found, value))

    finders = [_finder((value,)) for value in wanted]
    if not finders:
        return lambda value: True
    return lambda value: type(value) is list and all(any(map(found, value)) for found in finders)


def _exists(leaf: Any) -> Test:
    return lambda value: value is not MISSING and not is_empty(value)


def is_empty(value: Any) -> bool:
    """Whether a value is null, or an object or array without a leaf that isn't null."""
    if type(value) is dict:
        return all(map(is_empty, value.values()))
    if type(value) is list:
        return all(map(is_empty, value))
    return value is None


def _unsupported(leaf: Any) -> Test:
    raise InternalError(f"no evaluation of {type(leaf).__name__} on {leaf.column.key}")


_VALUE_TESTS: dict[type, Callable[[Any], Test]] = {
    Compare: _compare,
    Between: _between,
    In: _in,
    Like: _like,
    Matches: _matches,
    Arithmetic: _arithmetic,
    Length: _length,
    Contains: _contains,
    Exists: _exists,
}
