"""An analyzer: a tokenizer, then filters. It makes tokens of a text, for match, phrase and BM25.

What the filters make of a word depends on the word alone, and natural language repeats itself, so
it is remembered: a text costs its tokenizer and one look-up for each word.

Positions count the tokenizer's words, before any filter drops some: a phrase keeps its gaps.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from elanus.engine.text.filters import TokenFilter
from elanus.engine.text.tokenizers import Tokenizer, Word, byte_offsets

REMEMBERED_WORDS = 200_000
HASHED_BYTES = 100
DIMENSIONS = (1 << 32) - 1


class Token(NamedTuple):
    """``start``, ``end``: offsets in bytes of the text's UTF-8 form."""

    text: str
    start: int
    end: int
    position: int
    position_length: int = 1


def dimension_of(token: str) -> int:
    """The token's dimension in a sparse vector, as Milvus numbers it."""
    return zlib.crc32(token.encode()[:HASHED_BYTES]) % DIMENSIONS


class Analyzer:
    """Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, filters: Iterable[TokenFilter]) -> None:
        self._tokenizer = tokenizer
        self._filtered = _Filtered(tuple(filters))

    def tokens(self, text: str) -> list[str]:
        filtered = self._filtered
        return [token for word in self._tokenizer.words(text) for token in filtered[word]]

    def positioned(self, text: str) -> list[tuple[str, int]]:
        """(token, position); positions of dropped words are left out."""
        filtered = self._filtered
        return [
            (token, position)
            for position, word in self._tokenizer.positioned(text)
            for token in filtered[word]
        ]

    def placed(self, text: str) -> list[Word]:
        """The tokens, each with the place of its word."""
        return [
            word._replace(text=token)
            for word in self._tokenizer.spans(text)
            for token in self._filtered[word.text]
        ]

    def detailed(self, text: str) -> list[Token]:
        byte_at = byte_offsets(text)
        return [
            Token(w.text, byte_at[w.start], byte_at[w.end], w.position, w.position_length)
            for w in self.placed(text)
        ]


class _Filtered(dict[str, Sequence[str]]):
    """The tokens of each word seen. Threads that meet a new word at once do the work twice."""

    def __init__(self, filters: tuple[TokenFilter, ...]) -> None:
        super().__init__()
        self._filters = filters

    def __missing__(self, word: str) -> Sequence[str]:
        tokens: Sequence[str] = (word,)
        for token_filter in self._filters:
            tokens = [token for before in tokens for token in token_filter(before)]
        if len(self) >= REMEMBERED_WORDS:
            self.clear()
        self[word] = tokens = tuple(tokens)
        return tokens
