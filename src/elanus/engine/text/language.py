"""Texts of several languages: each is read by the analyzer of its own.

Needs the extra ``languages``. There are two ways to tell the language. ``lingua`` is the more
accurate one; ``whatlang`` looks at runs of three letters only, which is faster, and names the
languages as the library of this name does.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from elanus.engine.text.analyzer import Analyzer
from elanus.engine.text.tokenizers import Tokenizer, Word
from elanus.errors import Unimplemented

DEFAULT = "default"
IDENTIFIERS = ("whatlang", "lingua")

_WHATLANG_NAMES = {"Chinese": "Mandarin"}
_UNKNOWN_TO_WHATLANG = frozenset(
    (
        *("Albanian", "Basque", "Bosnian", "Ganda", "Icelandic", "Irish", "Kazakh", "Malay"),
        *("Maori", "Mongolian", "Nynorsk", "Somali", "Sotho", "Swahili", "Tsonga", "Tswana"),
        *("Welsh", "Xhosa", "Yoruba"),
    )
)

Identify = Callable[[str], str]
"""The English name of a text's language, or DEFAULT."""


class LanguageTokenizer(Tokenizer):
    """The words are the tokens that the analyzer of the text's language makes.

    analyzers: by language, or by what ``names`` makes of it; DEFAULT serves all others.
    """

    def __init__(
        self, identify: Identify, analyzers: Mapping[str, Analyzer], names: Mapping[str, str]
    ) -> None:
        self._identify = identify
        self._analyzers = analyzers
        self._names = names

    def words(self, text: str) -> list[str]:
        return self._analyzer_for(text).tokens(text)

    def positioned(self, text: str) -> Iterable[tuple[int, str]]:
        found = self._analyzer_for(text).positioned(text)
        return [(position, token) for token, position in found]

    def spans(self, text: str) -> list[Word]:
        return self._analyzer_for(text).placed(text)

    def _analyzer_for(self, text: str) -> Analyzer:
        language = self._identify(text)
        found = self._analyzers.get(self._names.get(language, language))
        return found if found is not None else self._analyzers[DEFAULT]


def identifier(name: str, confidence: float = 0.0) -> Identify:
    """One of IDENTIFIERS. ``confidence``: ``whatlang`` names a language only if it is surer than
    this, 0 to 1. Raises Unimplemented if the library isn't there."""
    if name == "lingua":
        detector = _detector(accurate=True)

        def by_lingua(text: str) -> str:
            language = detector.detect_language_of(text)
            return DEFAULT if language is None else _english_name(language)

        return by_lingua
    trigrams = _detector(accurate=False)

    def by_whatlang(text: str) -> str:
        found = trigrams.compute_language_confidence_values(text)
        if not found or found[0].value <= confidence:
            return DEFAULT
        language = _english_name(found[0].language)
        return _WHATLANG_NAMES.get(language, language)

    return by_whatlang


@lru_cache
def _detector(*, accurate: bool) -> Any:
    """One for the process: it holds its models."""
    try:
        from lingua import Language, LanguageDetectorBuilder
    except ImportError:
        raise Unimplemented(
            "the language_identifier tokenizer needs a library that is not installed here: "
            "pip install 'elanus[languages]' where the server runs"
        ) from None
    if accurate:
        return LanguageDetectorBuilder.from_all_languages().build()
    known = [one for one in Language.all() if _english_name(one) not in _UNKNOWN_TO_WHATLANG]
    return LanguageDetectorBuilder.from_languages(*known).with_low_accuracy_mode().build()


def _english_name(language: Any) -> str:
    name: str = language.name
    return name.title()
