"""The lexer: filter text to tokens with their positions, in linear time.

One regular expression recognises every token. A bracketed list of plain numbers or plain strings is
taken as one token by a bulk path, so that a list with a million elements costs no Python loop; a
list that the bulk path doesn't know (templates, escapes, mixed types) comes token by token.
"""

import re
from typing import Any

import msgspec
import numpy as np
import orjson

from elanus.engine.filter.faults import Fault

INT64_MIN = -(1 << 63)
INT64_MAX = (1 << 63) - 1
MOST_DIGITS = 80
EXPRESSION_OPERATORS = ("=~", "!~")

_DOUBLE_QUOTED = r'"[^"\\\r\n]*+(?:\\.[^"\\\r\n]*+)*+"'
_SINGLE_QUOTED = r"'[^'\\\r\n]*+(?:\\.[^'\\\r\n]*+)*+'"
_SUBSCRIPT = rf"\[(?:{_DOUBLE_QUOTED}|{_SINGLE_QUOTED}|0|[1-9][0-9]*+)\]"
_NAME = r"[A-Za-z_][A-Za-z0-9_]*+"
_FIELD = rf"{_NAME}(?:(?<!\bin)(?<!\bIN)\[{_NAME}\])?+"
"""A field, which may be that of a struct. ``in[true]`` is none."""
_EXPONENT = r"[eE][+-]?[0-9]+"
_TOKEN = re.compile(
    rf"""[ \t\r\n]*+(?:
  (?P<null>(?:is\ null|IS\ NULL|is\ not\ null|IS\ NOT\ NULL)(?![A-Za-z0-9_]))
 |(?P<element>{_NAME}\[(?:0|[1-9][0-9]*+)\]\[{_NAME}\])
 |(?P<member>\$\[{_NAME}\])
 |(?P<path>(?:\$meta|{_FIELD})(?:{_SUBSCRIPT})++)
 |(?P<name>\$meta(?![A-Za-z0-9_])|{_FIELD})
 |(?P<float>0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+
   |[0-9]+\.[0-9]*(?:{_EXPONENT})?|\.[0-9]+(?:{_EXPONENT})?|[0-9]+{_EXPONENT})
 |(?P<int>0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+)
 |(?P<string>{_DOUBLE_QUOTED}|{_SINGLE_QUOTED})
 |(?P<op>\*\*|<<|>>|<=|>=|==|!=|&&|\|\||=~|!~|[-+*/%<>=!&|^~()\[\]{{}},])
 |(?P<end>\Z)
)""",
    re.VERBOSE,
)
_SUBSCRIPTS = re.compile(rf"\[(?:({_DOUBLE_QUOTED}|{_SINGLE_QUOTED})|([0-9]+))\]")
_NUMBERS = re.compile(r"\[[-+0-9.eE, \t\r\n]*+\]")
_STRING_ITEM = r"[ \t\r\n]*+(?:\"[^\"\\\r\n]*+\"|'[^'\\\r\n]*+')[ \t\r\n]*+"
_STRINGS = re.compile(rf"\[(?:{_STRING_ITEM},)*+(?:{_STRING_ITEM})?+\]")
_PLAIN_STRING = re.compile(r"\"([^\"]*+)\"|'([^']*+)'")
_ESCAPE = re.compile(
    rb"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})"
    rb"|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))",
    re.DOTALL,
)
_EXPRESSION_ESCAPE = re.compile(r"\\([\\'\"])")
_SIMPLE_ESCAPES = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
    b"'": b"'",
    b'"': b'"',
}
_KEYWORDS = {
    "and": "and",
    "AND": "and",
    "or": "or",
    "OR": "or",
    "not": "not",
    "NOT": "not",
    "in": "in",
    "IN": "in",
    "like": "like",
    "LIKE": "like",
    "exists": "exists",
    "EXISTS": "exists",
}
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_SYMBOLS = {"&&": "and", "||": "or", "!": "not"}


class Token(msgspec.Struct, frozen=True, gc=False):
    """One token: ``text[start:end]``.

    kind: ``constant`` (value: bool, int, float or str), ``list`` (value: int64 array, or a list of
    numbers or strings), ``name`` (value: the name), ``path`` (value: name and subscripts, each a
    str or an int), ``member`` (value: the name within the struct), ``null`` (value: True for
    ``is not null``), ``op`` (value: the canonical spelling), ``end``.
    """

    kind: str
    value: Any
    start: int
    end: int

    @property
    def shown(self) -> str:
        """As errors show it."""
        if self.kind == "end":
            return "'<EOF>'"
        if self.kind == "list":
            return "'['"
        if self.kind == "null":
            return "'is not null'" if self.value else "'is null'"
        if self.kind == "member":
            return f"'$[{self.value}]'"
        value = self.value[0] if self.kind == "path" else self.value
        return f"'{str(value)[:40]}'"


def tokenize(text: str) -> list[Token]:
    """All tokens of ``text``; the last one is ``end``. Raises Fault."""
    tokens: list[Token] = []
    position = 0
    match_token = _TOKEN.match
    while True:
        match = match_token(text, position)
        if match is None:
            raise _unrecognised(text, position)
        kind = match.lastgroup
        start, position = match.span(kind)  # type: ignore[arg-type]
        value = match[kind]  # type: ignore[index]
        if kind == "name":
            token = _word(value, start, position)
        elif kind == "op":
            token = _symbol(text, value, start, position)
            position = token.end
        elif kind == "int":
            token = Token("constant", _integer(value, start), start, position)
        elif kind == "string":
            unquote = _unquote_expression if _is_expression(tokens) else _unquote
            token = Token("constant", unquote(value, start), start, position)
        elif kind == "float":
            token = Token("constant", _float(value, start), start, position)
        elif kind == "path":
            token = Token("path", _path(value, start), start, position)
        elif kind == "element":
            token = Token("path", _struct_element(value, start), start, position)
        elif kind == "member":
            token = Token("member", value[2:-1], start, position)
        elif kind == "null":
            token = Token("null", len(value) > 7, start, position)
        else:
            tokens.append(Token("end", None, start, position))
            return tokens
        tokens.append(token)


def _is_expression(before: list[Token]) -> bool:
    """Whether the string after these tokens is a regular expression."""
    return bool(before) and before[-1].kind == "op" and before[-1].value in EXPRESSION_OPERATORS


def _unrecognised(text: str, position: int) -> Fault:
    while text[position] in " \t\r\n":
        position += 1
    return Fault(f"token recognition error at: '{text[position]}'", position, "syntax")


def _word(word: str, start: int, end: int) -> Token:
    keyword = _KEYWORDS.get(word)
    if keyword is not None:
        return Token("op", keyword, start, end)
    boolean = _BOOLEANS.get(word)
    if boolean is not None:
        return Token("constant", boolean, start, end)
    return Token("name", word, start, end)


def _symbol(text: str, symbol: str, start: int, end: int) -> Token:
    if symbol == "[":
        bulk = _bulk_list(text, start)
        if bulk is not None:
            return bulk
    return Token("op", _SYMBOLS.get(symbol, symbol), start, end)


def _bulk_list(text: str, start: int) -> Token | None:
    """The list at ``start`` if it holds plain numbers only or plain strings only, else None."""
    match = _NUMBERS.match(text, start)
    if match is not None:
        try:
            values = orjson.loads(match[0])
        except orjson.JSONDecodeError:
            return None  # octal, `.5`, a trailing comma, a fault: token by token
        types = set(map(type, values))
        if types == {int}:
            try:
                return Token("list", np.array(values, np.int64), start, match.end())
            except OverflowError:
                return None
        # A large integer may have become a float: the slow path gives the range error.
        if float in types and max(map(len, re.split(r"[,.]", match[0]))) > 17:
            return None
        return Token("list", values, start, match.end())
    match = _STRINGS.match(text, start)
    if match is None:
        return None
    if "'" in match[0]:
        strings = [double or single for double, single in _PLAIN_STRING.findall(match[0])]
    else:
        strings = [double for double, _ in _PLAIN_STRING.findall(match[0])]
    return Token("list", strings, start, match.end())


def _integer(digits: str, start: int) -> int:
    """An integer literal; 2**63 is let through for the parser, which knows of a minus before it."""
    head = digits[:2]
    if len(digits) > MOST_DIGITS:
        value = INT64_MAX + 2
    elif head in ("0x", "0X"):
        value = int(digits, 16)
    elif head in ("0b", "0B"):
        value = int(digits, 2)
    elif digits[0] == "0" and len(digits) > 1:
        if "8" in digits or "9" in digits:
            raise Fault(f"token recognition error at: '{digits}'", start, "syntax")
        value = int(digits, 8)
    else:
        value = int(digits)
    if value > INT64_MAX + 1:
        raise out_of_range(digits, start)
    return value


def out_of_range(digits: str, position: int) -> Fault:
    return Fault(f'strconv.ParseInt: parsing "{digits}": value out of range', position)


def _float(digits: str, start: int) -> float:
    try:
        value = float.fromhex(digits) if digits[:2] in ("0x", "0X") else float(digits)
    except OverflowError:
        value = float("inf")
    if value == float("inf"):
        raise Fault(f'strconv.ParseFloat: parsing "{digits}": value out of range', start)
    return value


def _path(path: str, start: int) -> tuple[str, tuple[str | int, ...]]:
    first = _SUBSCRIPTS.search(path)
    assert first is not None
    bracket = first.start()
    subscripts: list[str | int] = []
    for match in _SUBSCRIPTS.finditer(path, bracket):
        quoted, index = match.groups()
        if quoted is None:
            subscripts.append(_integer(index, start))
            continue
        key = _unquote(quoted, start)
        if not key:
            raise Fault(f"invalid identifier: {path}", start)
        subscripts.append(key)
    return path[:bracket], tuple(subscripts)


def _struct_element(element: str, start: int) -> tuple[str, tuple[str | int, ...]]:
    """``s[0][field]`` is the same as ``s[field][0]``."""
    struct, index, name = element.replace("]", "").split("[")
    return f"{struct}[{name}]", (_integer(index, start),)


def _unquote(quoted: str, start: int) -> str:
    """The value of a quoted string by Go's rules."""
    body = quoted[1:-1]
    if "\\" not in body:
        return body

    def replace(match: re.Match[bytes]) -> bytes:
        simple, octal, byte, short, long, _ = match.groups()
        if simple is not None:
            return _SIMPLE_ESCAPES[simple]
        if octal is not None and int(octal, 8) < 256:
            return bytes((int(octal, 8),))
        if byte is not None:
            return bytes((int(byte, 16),))
        if short is not None or long is not None:
            code = int(short or long, 16)
            if code < 0x110000 and not 0xD800 <= code < 0xE000:
                return chr(code).encode()
        raise Fault(f"invalid syntax: {quoted}", start)

    try:
        return _ESCAPE.sub(replace, body.encode()).decode()
    except UnicodeDecodeError as error:
        raise Fault(f"invalid syntax: {quoted}", start) from error


def _unquote_expression(quoted: str, start: int) -> str:
    """A regular expression from a quoted string: a doubled backslash or an escaped quote is one
    character, all other escapes are the expression's own."""
    return _EXPRESSION_ESCAPE.sub(r"\1", quoted[1:-1])
