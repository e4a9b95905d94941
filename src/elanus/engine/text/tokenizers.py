"""Tokenizers: text to words, with their place in the text if it is asked for.

A tokenizer is safe to use from several threads.
"""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from elanus.errors import Unimplemented


class Word(NamedTuple):
    """``start``, ``end``: offsets in characters. ``position``: the word's number in the text,
    ``position_length``: how many words it stands for."""

    text: str
    start: int
    end: int
    position: int
    position_length: int = 1


class Tokenizer(ABC):
    @abstractmethod
    def words(self, text: str) -> list[str]: ...

    @abstractmethod
    def spans(self, text: str) -> list[Word]:
        """The same words, with their places."""

    def positioned(self, text: str) -> Iterable[tuple[int, str]]:
        """The same words, each with its position."""
        return enumerate(self.words(text))


class TantivyTokenizer(Tokenizer):
    """``standard``: runs of alphanumeric characters. ``whitespace``: what stands between blanks."""

    def __init__(self, name: str) -> None:
        from tantivy import TextAnalyzerBuilder
        from tantivy import Tokenizer as Kinds

        kind = {"standard": Kinds.simple, "whitespace": Kinds.whitespace}[name]
        analyzer = TextAnalyzerBuilder(kind()).build()
        self._analyze: Callable[[str], list[str]] = analyzer.analyze
        self._tokenize = analyzer.pre_tokenize

    def words(self, text: str) -> list[str]:
        return self._analyze(text)

    def spans(self, text: str) -> list[Word]:
        return [
            Word(token.text, token.char_offset_from, token.char_offset_to, position)
            for position, token in enumerate(self._tokenize(text).tokens)
        ]


class JiebaTokenizer(Tokenizer):
    """Chinese words from a dictionary; runs of other letters and every other character stand alone.

    ``search``: long words are given besides the shorter ones in them. ``guess_unknown``: words that
    the dictionary lacks are found by a hidden Markov model.
    """

    def __init__(
        self,
        *,
        search: bool = True,
        guess_unknown: bool = True,
        default_dictionary: bool = True,
        own_words: Iterable[str] = (),
    ) -> None:
        from rjieba import Jieba

        # The dictionary is made once for each: 5 MB and 0.2 s.
        make: Any = Jieba if default_dictionary else Jieba.empty
        self._jieba = make()
        for word in own_words:
            self._jieba.add_word(word, None, None)
        self._mode = "search" if search else "default"
        self._guess_unknown = guess_unknown
        self._cut = self._jieba.cut_for_search if search else self._jieba.cut

    def words(self, text: str) -> list[str]:
        cut: list[str] = self._cut(text, self._guess_unknown)
        return cut

    def spans(self, text: str) -> list[Word]:
        found = self._jieba.tokenize(text, self._mode, self._guess_unknown)
        return [
            Word(text, start, end, position) for position, (text, start, end) in enumerate(found)
        ]


class IcuTokenizer(Tokenizer):
    """Unicode's word boundaries (UAX #29), with dictionaries for scripts without blanks. Blanks and
    punctuation are words too. Needs the extra ``icu``."""

    def __init__(self) -> None:
        try:
            from icu4py.breakers import WordBreaker
        except ImportError:
            raise Unimplemented(
                "the icu tokenizer needs a library that is not installed here: "
                "pip install 'elanus[icu]' where the server runs"
            ) from None
        self._breaker: Any = WordBreaker

    def words(self, text: str) -> list[str]:
        return [text[start:end] for start, end in self._boundaries(text)]

    def spans(self, text: str) -> list[Word]:
        return [
            Word(text[start:end], start, end, position)
            for position, (start, end) in enumerate(self._boundaries(text))
        ]

    def _boundaries(self, text: str) -> Iterable[tuple[int, int]]:
        pairs: Iterable[tuple[int, int]] = self._breaker(text, "en").segments()
        return pairs


CHARACTER_GROUPS: dict[str, Callable[[str], bool]] = {
    "whitespace": str.isspace,
    "letter": str.isalpha,
    "digit": str.isdecimal,
    "punctuation": lambda c: unicodedata.category(c).startswith("P"),
    "symbol": lambda c: unicodedata.category(c).startswith("S"),
    "ascii_whitespace": lambda c: c.isascii() and c.isspace(),
    "ascii_letter": lambda c: c.isascii() and c.isalpha(),
    "ascii_digit": lambda c: c.isascii() and c.isdigit(),
    "ascii_punctuation": lambda c: c.isascii() and unicodedata.category(c)[0] in "PS",
}


class CharacterGroupTokenizer(Tokenizer):
    """What stands between delimiters: single characters, or names of CHARACTER_GROUPS."""

    def __init__(self, delimiters: Iterable[str]) -> None:
        self._characters = {name for name in delimiters if len(name) == 1}
        self._groups = [CHARACTER_GROUPS[name] for name in delimiters if len(name) > 1]

    def words(self, text: str) -> list[str]:
        return [word.text for word in self.spans(text)]

    def spans(self, text: str) -> list[Word]:
        found: list[Word] = []
        start = 0
        for at, character in enumerate([*text, None]):
            if character is not None and not self._is_delimiter(character):
                continue
            if at > start:
                found.append(Word(text[start:at], start, at, len(found)))
            start = at + 1
        return found

    def _is_delimiter(self, character: str) -> bool:
        return character in self._characters or any(has(character) for has in self._groups)


def byte_offsets(text: str) -> Sequence[int]:
    """The offset in UTF-8 of each character, and of the end."""
    if text.isascii():
        return range(len(text) + 1)
    offsets = [0]
    for character in text:
        offsets.append(offsets[-1] + len(character.encode()))
    return offsets
