"""The parser: tokens to an untyped syntax tree in postfix order.

A Pratt parser over the operator table with its stack made explicit, so that neither a deep nest of
parentheses nor a long chain can exhaust Python's recursion. Nodes come operands first; each says
how many operands it takes. A chain of one ``and`` or ``or`` becomes one node with many operands.
"""

from typing import Any

import msgspec

from elanus.engine.filter.faults import Fault
from elanus.engine.filter.lexer import (
    EXPRESSION_OPERATORS,
    INT64_MAX,
    Token,
    out_of_range,
    tokenize,
)
from elanus.engine.filter.operators import (
    BINDING_LIKE,
    BINDING_RANGE,
    COMPARISONS,
    ELEMENT_FILTER,
    ELEMENT_FUNCTIONS,
    INFIX,
    OPTIONS,
    ORDERINGS,
    PREFIX,
    THRESHOLD,
)
from elanus.engine.filter.times import read_time

MAX_NESTING = 3_000
"""Most open brackets, and operators that wait for their last operand, at one place of a filter."""


class Node(msgspec.Struct, frozen=True, gc=False):
    """A node of the syntax tree over ``count`` operands before it.

    kind: ``constant``, ``name``, ``path``, ``member``, ``template``, ``list`` (with values, or over
    operands), ``option``, ``time``, ``is null``, ``like``, ``=~``, ``!~``, ``range``, ``call``,
    ``elements``, ``prefix``, ``infix``. value: see the parser's methods. start: where the node
    begins in the text; end: where its own last token ends, or where that of its operands ends.
    """

    kind: str
    value: Any
    count: int
    start: int
    end: int


class _Pending:
    """An operator that waits for its last operand, or an open bracket (``binding`` 0)."""

    __slots__ = ("binding", "count", "kind", "start", "value")

    def __init__(self, kind: str, value: Any, binding: int, count: int, start: int) -> None:
        self.kind = kind
        self.value = value
        self.binding = binding
        self.count = count
        self.start = start


def parse(text: str) -> list[Node]:
    """The nodes of ``text`` in postfix order. Raises Fault."""
    return _Parser(tokenize(text)).run()


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._output: list[Node] = []
        self._pending: list[_Pending] = []
        self._struct = ""  # whose elements the predicate that is being read is about

    def run(self) -> list[Node]:
        while True:
            while not self._operand():
                if len(self._pending) > MAX_NESTING:
                    raise Fault(
                        f"nested deeper than {MAX_NESTING} levels",
                        self._tokens[self._at].start,
                        "syntax",
                    )
            while True:
                token = self._tokens[self._at]
                if token.kind == "end":
                    self._finish(token)
                    return self._output
                if self._continuation(token):
                    break

    def _emit(self, kind: str, value: Any, count: int, start: int, end: int) -> None:
        self._output.append(Node(kind, value, count, start, end))

    # Operand position ---------------------------------------------------------------------------

    def _operand(self) -> bool:
        """Take one token where an operand is due; True if the operand is complete."""
        token = self._tokens[self._at]
        kind, value = token.kind, token.value
        self._at += 1
        if kind == "constant":
            if type(value) is int and value > INT64_MAX and not self._after_minus():
                raise out_of_range(str(value), token.start)
            self._emit("constant", value, 0, token.start, token.end)
            return True
        if kind == "name":
            return self._name(token)
        if kind in ("path", "member"):
            self._place(token)
            return True
        if kind == "list":
            self._emit("list", value, 0, token.start, token.end)
            return True
        if kind == "op":
            if value in PREFIX:
                self._push("prefix", value, PREFIX[value], 1, token.start)
                return False
            if value == "(":
                self._push("(", None, 0, 1, token.start)
                return False
            if value == "[":
                return self._open("list", "]", token)
            if value == "{":
                self._template(token)
                return True
        raise self._unexpected(token)

    def _after_minus(self) -> bool:
        top = self._pending[-1] if self._pending else None
        return top is not None and top.kind == "prefix" and top.value == "-"

    def _push(self, kind: str, value: Any, binding: int, count: int, start: int) -> None:
        self._pending.append(_Pending(kind, value, binding, count, start))

    def _name(self, token: Token) -> bool:
        following = self._tokens[self._at]
        if following.kind == "op" and following.value == "(":
            lowered = token.value.lower()
            if lowered in ELEMENT_FUNCTIONS and token.value in (lowered, lowered.upper()):
                self._elements(lowered, token.start)
                return False
            self._at += 1
            return self._open("call", ")", token)
        if following.kind == "op" and following.value == "=" and self._takes_option(token):
            return self._option(token)
        self._require_elements(token)
        if self._is_time(following) and self._time(token):
            return True
        if following.kind == "op" and following.value == "[":
            key = self._tokens[self._at + 1]
            if key.kind == "name":
                raise Fault(
                    "json key must be enclosed in double quotes or single quotes: "
                    f'"{token.value}[{key.value}]"',
                    key.start,
                )
        self._place(token)
        return True

    def _takes_option(self, token: Token) -> bool:
        lowered = token.value.lower()
        named = lowered in OPTIONS and token.value in (lowered, lowered.upper())
        return named and bool(self._pending) and self._pending[-1].kind in ("call", "elements")

    def _option(self, token: Token) -> bool:
        """``name=integer`` within a call."""
        name, sign = token.value.lower(), 1
        self._at += 1
        value = self._tokens[self._at]
        if name == THRESHOLD and value.kind == "op" and value.value == "-":
            sign, self._at = -1, self._at + 1
            value = self._tokens[self._at]
        if value.kind != "constant" or type(value.value) is not int:
            raise self._unexpected(value, " expecting IntegerConstant")
        self._at += 1
        self._emit("option", (name, sign * value.value), 0, token.start, value.end)
        return True

    def _elements(self, function: str, start: int) -> None:
        """``function(struct, ``: what follows is about the elements of that array of structs."""
        if self._struct:
            shown, within = "ElementFilter", "ElementFilter"
            if function != ELEMENT_FILTER:
                shown, within = function.upper(), "match expression"
            raise Fault(
                f"nested {shown} is not supported, already inside {within} for field: "
                f"{self._struct}",
                start,
            )
        struct = self._tokens[self._at + 1]
        if struct.kind != "name":
            raise self._unexpected(struct)
        comma = self._tokens[self._at + 2]
        if comma.kind != "op" or comma.value != ",":
            raise self._unexpected(comma)
        self._at += 3
        self._struct = struct.value
        self._push("elements", (function, struct.value), 0, 1, start)

    def _is_time(self, following: Token) -> bool:
        """Whether a timestamp's comparison may begin with a name and this token."""
        return following.kind == "constant" or (
            following.kind == "op" and (following.value in COMPARISONS or following.value in "+-")
        )

    def _time(self, token: Token) -> bool:
        """``name [± interval "…"] operator iso "…"``, or its mirror image: one operand, which
        binds tighter than everything else."""
        found = read_time(self._tokens, self._at - 1)
        if found is None:
            return False
        value, self._at = found
        self._emit("time", value, 0, token.start, self._tokens[self._at - 1].end)
        return True

    def _place(self, token: Token) -> None:
        """A name or a path, with the ``is null`` that may follow it, or the field of an element."""
        if token.kind == "member":
            if not self._struct:
                raise Fault(
                    f"$[{token.value}] syntax can only be used inside ElementFilter or MATCH_*",
                    token.start,
                )
            self._emit("member", (self._struct, token.value), 0, token.start, token.end)
            return
        self._require_elements(token)
        self._emit(token.kind, token.value, 0, token.start, token.end)
        following = self._tokens[self._at]
        if following.kind == "null":
            self._at += 1
            self._emit("is null", following.value, 1, token.start, following.end)

    def _require_elements(self, token: Token) -> None:
        if self._struct:
            raise Fault(
                "predicate can only reference array elements ($ or $[subField]); "
                "row-level field references are not supported",
                token.start,
            )

    def _open(self, kind: str, closing: str, token: Token) -> bool:
        following = self._tokens[self._at]
        value = token.value if kind == "call" else None
        if following.kind == "op" and following.value == closing:
            self._at += 1
            self._emit(kind, value, 0, token.start, following.end)
            return True
        self._push(kind, value, 0, 1, token.start)
        return False

    def _template(self, token: Token) -> None:
        name, closing = self._tokens[self._at], None
        if name.kind == "name":
            closing = self._tokens[self._at + 1]
        if closing is None or closing.value != "}":
            raise self._unexpected(closing or name)
        self._at += 2
        self._emit("template", name.value, 0, token.start, closing.end)

    # Operator position --------------------------------------------------------------------------

    def _continuation(self, token: Token) -> bool:
        """Take what follows a complete operand; True if an operand is due next."""
        if token.kind != "op":
            raise self._leftover(token)
        operator = token.value
        binding = INFIX.get(operator)
        if binding is not None:
            self._infix(operator, binding, token)
            return True
        if operator == "not" and self._follows("in"):
            self._at += 1
            self._infix("not in", INFIX["in"], token)
            return True
        if operator in ("like", *EXPRESSION_OPERATORS):
            self._pattern(token)
            return False
        if operator == ",":
            return self._comma(token)
        if operator in (")", "]"):
            self._close(token)
            return False
        raise self._leftover(token)

    def _follows(self, operator: str) -> bool:
        following = self._tokens[self._at + 1]
        return following.kind == "op" and following.value == operator

    def _infix(self, operator: str, binding: int, token: Token) -> None:
        if operator in ORDERINGS and self._range(token):
            return
        self._at += 1
        self._reduce(binding + 1)
        top = self._pending[-1] if self._pending else None
        if top is not None and top.binding == binding:
            if operator == top.value and operator in ("and", "or"):
                top.count += 1
                return
            self._reduce(binding)
        self._push("infix", operator, binding, 2, token.start)

    def _range(self, token: Token) -> bool:
        """``< name <``: the beginning of a range chain, if that is what stands here."""
        middle = self._tokens[self._at + 1]
        if middle.kind not in ("name", "path", "member"):
            return False
        second = self._tokens[self._at + 2]
        if second.kind != "op" or second.value not in ORDERINGS:
            return False
        if second.value[0] != token.value[0]:
            return False
        self._reduce(BINDING_RANGE)
        self._place(middle)
        self._at += 3
        self._push("range", (token.value, second.value), BINDING_RANGE, 3, token.start)
        return True

    def _pattern(self, token: Token) -> None:
        """The value is the pattern, or the node of a template."""
        pattern = self._tokens[self._at + 1]
        self._at += 2
        if pattern.kind == "op" and pattern.value == "{":
            self._template(pattern)
            value: Any = self._output.pop()
        elif pattern.kind == "constant" and type(pattern.value) is str:
            value = pattern.value
        else:
            raise self._unexpected(pattern)
        self._reduce(BINDING_LIKE)
        self._emit(token.value, value, 1, token.start, self._tokens[self._at - 1].end)

    def _comma(self, token: Token) -> bool:
        self._reduce(1)
        top = self._pending[-1] if self._pending else None
        if top is None:
            raise self._leftover(token)
        if top.kind == "(":
            raise self._unexpected(token)
        self._at += 1
        following = self._tokens[self._at]
        if top.kind == "list" and following.kind == "op" and following.value == "]":
            return False  # one trailing comma
        top.count += 1
        return True

    def _close(self, token: Token) -> None:
        self._reduce(1)
        top = self._pending.pop() if self._pending else None
        if top is None:
            raise self._leftover(token)
        if (token.value == "]") != (top.kind == "list"):
            raise self._unexpected(token)
        self._at += 1
        if top.kind == "elements":
            self._struct = ""
        if top.kind != "(":
            self._emit(top.kind, top.value, top.count, top.start, token.end)

    def _reduce(self, binding: int) -> None:
        """Emit the waiting operators that bind at least as tightly as ``binding``."""
        pending = self._pending
        while pending and pending[-1].binding >= binding:
            top = pending.pop()
            end = self._tokens[self._at - 1].end
            self._emit(top.kind, top.value, top.count, top.start, end)

    def _finish(self, end: Token) -> None:
        self._reduce(1)
        if self._pending:
            raise Fault(f"missing the end of '{self._opening()}' at '<EOF>'", end.start, "syntax")

    def _opening(self) -> str:
        top = self._pending[-1]
        if top.kind == "elements":
            return f"{top.value[0]}("
        return f"{top.value}(" if top.kind == "call" else "[" if top.kind == "list" else "("

    # Faults -------------------------------------------------------------------------------------

    def _unexpected(self, token: Token, expected: str = "") -> Fault:
        return Fault(f"mismatched input {token.shown}{expected}", token.start, "syntax")

    def _leftover(self, token: Token) -> Fault:
        if self._pending and any(waiting.binding == 0 for waiting in self._pending):
            return Fault(f"extraneous input {token.shown}", token.start, "syntax")
        return Fault(f"extraneous input {token.shown}", token.start, "leftover")
