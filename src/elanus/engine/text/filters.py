"""Token filters: each a function of one token that gives the tokens that stand in its place.

They know nothing of a token's neighbours, so that an analyzer can remember what became of a word.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

TokenFilter = Callable[[str], Sequence[str]]

STOP_WORD_LANGUAGES = (
    *("danish", "dutch", "english", "finnish", "french", "german", "hungarian"),
    *("italian", "norwegian", "portuguese", "russian", "spanish", "swedish"),
)
STEMMER_LANGUAGES = (
    *("arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian"),
    *("italian", "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish"),
    *("tamil", "turkish"),
)

_HAN = re.compile(
    "[\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00016fe2-\U00016ff1\U00020000-\U0003fffd]"
)
_ASCII_ALPHANUMERIC = re.compile("[0-9A-Za-z]")


def lowercase(token: str) -> Sequence[str]:
    return (token.lower(),)


def alphanumeric_only(token: str) -> Sequence[str]:
    return _kept(token, token.isascii() and token.isalnum())


def han_only(token: str) -> Sequence[str]:
    return _kept(token, _HAN.search(token) is not None)


def han_or_alphanumeric_only(token: str) -> Sequence[str]:
    return _kept(token, bool(_HAN.search(token) or _ASCII_ALPHANUMERIC.search(token)))


def without_punctuation(token: str) -> Sequence[str]:
    return _kept(token, any(unicodedata.category(character)[0] not in "PZC" for character in token))


def ascii_folding() -> TokenFilter:
    """Letters with marks, ligatures and the like become ASCII where there is a form for them."""
    from tantivy import Filter

    fold = _tantivy(Filter.ascii_fold())
    return lambda token: (token,) if token.isascii() else fold(token)


def stemmer(language: str) -> TokenFilter:
    """Snowball's algorithm for one of STEMMER_LANGUAGES."""
    from tantivy import Filter

    return _tantivy(Filter.stemmer(language))


def decompounder(words: Sequence[str]) -> TokenFilter:
    """Split a token that ``words`` cover wholly, keep others."""
    from tantivy import Filter

    return _tantivy(Filter.split_compound(list(words)))


def stop(words: Iterable[str], languages: Iterable[str]) -> TokenFilter:
    """Drop ``words`` and the stop words of ``languages``, of STOP_WORD_LANGUAGES."""
    from tantivy import Filter

    dropped = frozenset(words)
    lists = [_tantivy(Filter.stopword(language)) for language in languages]
    return lambda token: _kept(token, token not in dropped and all(keep(token) for keep in lists))


def length(most_bytes: int) -> TokenFilter:
    return lambda token: _kept(token, len(token.encode()) <= most_bytes)


def matching(expression: str) -> TokenFilter:
    """Keep tokens in which the expression (RE2: linear time) is found. Raises ValueError if it
    is not one."""
    try:
        pc.match_substring_regex(pa.array([""]), expression)
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from None

    def keep(token: str) -> Sequence[str]:
        return _kept(token, pc.match_substring_regex(pa.array([token]), expression)[0].as_py())

    return keep


def _kept(token: str, keep: bool) -> Sequence[str]:
    return (token,) if keep else ()


def _tantivy(token_filter: Any) -> TokenFilter:
    from tantivy import TextAnalyzerBuilder, Tokenizer

    builder = TextAnalyzerBuilder(Tokenizer.raw()).filter(token_filter)
    analyze: TokenFilter = builder.build().analyze
    return analyze
