"""Japanese, Korean and Chinese words from the dictionaries of Lindera, which also say what part of
speech a word is. Punctuation is a word too. Needs the extra ``lindera``. A dictionary is read once,
by its first tokenizer, which takes some tenths of a second.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from elanus.engine.text.tokenizers import Tokenizer, Word, byte_offsets
from elanus.errors import Unimplemented

DICTIONARIES = ("ipadic", "ipadic-neologd", "unidic", "ko-dic", "cc-cedict")
TAG_FILTERS = (
    *("japanese_stop_tags", "japanese_keep_tags", "japanese_compound_word"),
    *("korean_stop_tags", "korean_keep_tags"),
)
"""Filters by part of speech: those that drop words, keep only some, or join neighbours."""


class LinderaTokenizer(Tokenizer):
    """``dictionary``: one of DICTIONARIES. ``tags``: of each of TAG_FILTERS that is applied, in
    order. Raises Unimplemented if the library or the dictionary isn't there."""

    def __init__(self, dictionary: str, tags: Sequence[tuple[str, Sequence[str]]] = ()) -> None:
        builder = _builder()
        builder.set_mode("normal")
        builder.set_dictionary(f"embedded://{dictionary}")
        for kind, wanted in tags:
            builder.append_token_filter(kind, _arguments(dictionary, kind, wanted))
        try:
            self._tokenizer = builder.build()
        except (RuntimeError, ValueError) as error:
            raise Unimplemented(
                f"the lindera tokenizer has no dictionary {dictionary} here: {error}"
            ) from error

    def words(self, text: str) -> list[str]:
        return [token.surface for token in self._tokenizer.tokenize(text)]

    def positioned(self, text: str) -> Iterable[tuple[int, str]]:
        return [(token.position, token.surface) for token in self._tokenizer.tokenize(text)]

    def spans(self, text: str) -> list[Word]:
        at = {offset: character for character, offset in enumerate(byte_offsets(text))}
        return [
            Word(token.surface, at[token.byte_start], at[token.byte_end], token.position)
            for token in self._tokenizer.tokenize(text)
        ]


def _builder() -> Any:
    try:
        from lindera import TokenizerBuilder
    except ImportError:
        raise Unimplemented(
            "the lindera tokenizer needs a library that is not installed here: "
            "pip install 'elanus[lindera]' where the server runs"
        ) from None
    return TokenizerBuilder()


def _arguments(dictionary: str, kind: str, tags: Sequence[str]) -> Mapping[str, Any]:
    if kind == "japanese_compound_word":
        return {"kind": dictionary, "tags": list(tags)}
    return {"tags": list(tags)}
