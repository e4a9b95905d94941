"""``and`` and ``or`` of bound operands: what may be joined, and how deep the typed tree may get.

A random sample and an element filter say which of the rows (or elements) that pass the rest are
kept, so they can only be the last operand of an ``and`` that nothing else holds.
"""

from typing import Any

from elanus.engine.filter.expression import And, Node, Or
from elanus.engine.filter.faults import Fault
from elanus.engine.filter.operands import Constant, Elements, Operand, Predicate, Sample

MAX_DEPTH = 400
"""Most levels of a typed tree: rewriting and evaluation recurse once for each. Equal neighbours
(``and`` in ``and``, ``not`` in ``not``) make one level, so that only alternation counts."""


def predicate(node: Node, depth: int, start: int, end: int) -> Predicate:
    """A predicate of ``depth`` levels. Raises Fault if those are too many."""
    if depth > MAX_DEPTH:
        raise Fault(f"and, or and not alternate deeper than {MAX_DEPTH} levels", start)
    return Predicate(node=node, depth=depth, start=start, end=end)


def join(operator: str, operands: list[Any]) -> Operand:
    """``operands`` joined by ``and`` or ``or``. Raises Fault."""
    start, end = operands[0].start, operands[-1].end
    kinds = set(map(type, operands))
    if Elements in kinds:
        return _elements(operator, operands)
    if Sample in kinds:
        return _sample(operator, operands)
    if kinds == {Constant}:
        values = [operand.value for operand in operands]
        if all(isinstance(value, bool) for value in values):
            value = all(values) if operator == "and" else any(values)
            return Constant(value=value, literal=False, start=start, end=end)
    if kinds != {Predicate}:
        wrong = next(operand for operand in operands if not isinstance(operand, Predicate))
        raise Fault(f"'{operator}' can only be used between boolean expressions", wrong.start)
    node_type = And if operator == "and" else Or
    children: list[Node] = []
    depth = 0
    for operand in operands:
        if isinstance(operand.node, node_type):
            children.extend(operand.node.children)
            depth = max(depth, operand.depth - 1)
        else:
            children.append(operand.node)
            depth = max(depth, operand.depth)
    return predicate(node_type(tuple(children)), depth + 1, start, end)


def _sample(operator: str, operands: list[Any]) -> Sample:
    """A sample as the last operand of a conjunction: of the rows that pass the others."""
    *others, last = operands
    wrong = next((operand for operand in others if isinstance(operand, Sample)), None)
    if operator == "or":
        raise Fault(
            "random sample expression cannot be used in logical and expression",
            (wrong or last).start,
        )
    if wrong is not None:
        raise Fault(
            "random sample expression can only be the last expression in the logical "
            "and expression",
            wrong.start,
        )
    if last.node is not None:
        kept = Predicate(node=last.node, depth=last.depth, start=last.start, end=last.end)
        others.append(kept)
    rest = join("and", others) if len(others) > 1 else others[0]
    if not isinstance(rest, Predicate):
        raise Fault("'and' can only be used between boolean expressions", rest.start)
    return Sample(
        share=last.share, node=rest.node, depth=rest.depth, start=rest.start, end=last.end
    )


def _elements(operator: str, operands: list[Any]) -> Elements:
    """An element filter as the last operand of a conjunction."""
    *others, last = operands
    wrong = next((operand for operand in others if isinstance(operand, Elements)), None)
    if wrong is not None:
        raise Fault(
            "element filter expression can only be the last expression in the logical "
            f"{operator} expression",
            wrong.start,
        )
    if operator == "or":
        raise Fault("element filter expression cannot be used in logical or expression", last.start)
    kept = Predicate(node=last.node, depth=last.depth, start=last.start, end=last.end)
    rest = join("and", [*others, kept])
    assert isinstance(rest, Predicate)
    return Elements(
        struct=last.struct,
        tested=last.tested,
        node=rest.node,
        depth=rest.depth,
        start=rest.start,
        end=last.end,
    )
