"""LIKE patterns: ``%`` is any run of characters, ``_`` is one character, a backslash escapes.

A pattern is classified once, so that the common shapes (equality, prefix, suffix, substring) run on
the fast string kernels. ``matches`` decides without backtracking: the pieces between ``%`` are
found from left to right, the last one at the end.
"""

import re
from functools import cached_property
from typing import TypeAlias

import msgspec

Piece: TypeAlias = tuple[str | None, ...]
"""Literal characters, None for ``_``."""


class LikePattern(msgspec.Struct, frozen=True, dict=True):
    """A parsed pattern.

    kind: ``equal``, ``any``, ``prefix``, ``suffix``, ``contains`` (with ``text``) or ``general``
    (with ``pieces``). pieces: what stands between the runs of ``%``: literal characters, None for
    ``_``. A pattern that begins (ends) with ``%`` has an empty first (last) piece.
    """

    source: str
    kind: str
    text: str
    pieces: tuple[Piece, ...] = ()

    def matches(self, value: str) -> bool:
        kind = self.kind
        if kind == "prefix":
            return value.startswith(self.text)
        if kind == "suffix":
            return value.endswith(self.text)
        if kind == "contains":
            return self.text in value
        if kind == "equal":
            return value == self.text
        return kind == "any" or self._matches_pieces(value)

    def _matches_pieces(self, value: str) -> bool:
        first, *middle = self._compiled
        if not middle:
            return first.fullmatch(value) is not None
        last = middle.pop()
        head = first.match(value)
        if head is None:
            return False
        at, end = head.end(), len(value) - len(self.pieces[-1])
        if end < at or last.fullmatch(value, end) is None:
            return False
        for piece in middle:
            found = piece.search(value, at, end)
            if found is None:
                return False
            at = found.end()
        return True

    @cached_property
    def _compiled(self) -> list[re.Pattern[str]]:
        return [
            re.compile("".join("." if c is None else re.escape(c) for c in piece), re.DOTALL)
            for piece in self.pieces
        ]

    @cached_property
    def regex(self) -> str:
        """The pattern in the syntax of RE2."""
        pieces = ("".join(map(_quoted, piece)) for piece in self.pieces)
        return r"(?s)\A" + ".*".join(pieces) + r"\z"


def _quoted(character: str | None) -> str:
    if character is None:
        return "."
    if character.isalnum() or ord(character) > 127:
        return character
    return f"\\x{ord(character):02x}"


def parse_like(source: str) -> LikePattern:
    """Parse a pattern. A lone backslash at the end stands for itself if there is no wildcard and
    for nothing otherwise."""
    if "\\" not in source and "_" not in source:
        text = source.strip("%")
        if "%" not in text:
            return LikePattern(source, _kind(source[:1] == "%", source[-1:] == "%", text), text)
    pieces: list[list[str | None]] = [[]]
    wildcard = after_percent = False
    characters = iter(source)
    for character in characters:
        if character == "%":
            if not after_percent:
                pieces.append([])
            wildcard = after_percent = True
            continue
        after_percent = False
        if character == "_":
            wildcard = True
            pieces[-1].append(None)
        elif character == "\\":
            pieces[-1].append(next(characters, "" if wildcard else "\\"))
        else:
            pieces[-1].append(character)
    frozen = tuple(tuple(c for c in piece if c != "") for piece in pieces)
    kind, text = _classify(frozen)
    return LikePattern(source, kind, text, frozen)


def _classify(pieces: tuple[Piece, ...]) -> tuple[str, str]:
    filled = [piece for piece in pieces if piece]
    if any(None in piece for piece in filled) or len(filled) > 1:
        return "general", ""
    text = "".join(character or "" for character in filled[0]) if filled else ""
    if len(pieces) == 1:
        return "equal", text
    return _kind(not pieces[0], not pieces[-1], text), text


def _kind(open_start: bool, open_end: bool, text: str) -> str:
    """The kind of a pattern of plain text with ``%`` before or after it, or neither."""
    if not text:
        return "any" if open_start else "equal"
    if open_start:
        return "contains" if open_end else "suffix"
    return "prefix" if open_end else "equal"
