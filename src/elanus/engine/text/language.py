"""Texts of several languages: each is read by the analyzer of its own.

Needs the extra ``languages``: a small neural network tells the language (CLD3), in a tenth of a
millisecond. The identifiers ``whatlang`` and ``lingua`` are two ways to name what it finds, those
of the libraries that are called so; which texts they can't tell apart may differ from theirs.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from elanus.engine.text.analyzer import Analyzer
from elanus.engine.text.tokenizers import Tokenizer, Word
from elanus.errors import Unimplemented

DEFAULT = "default"
IDENTIFIERS = ("whatlang", "lingua")

LOOKED_AT_BYTES = 1_000
"""Of a longer text only some parts are read."""
_NAMES = {
    "af": "Afrikaans",
    "am": "Amharic",
    "ar": "Arabic",
    "az": "Azerbaijani",
    "be": "Belarusian",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "bs": "Bosnian",
    "ca": "Catalan",
    "cs": "Czech",
    "cy": "Welsh",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "eo": "Esperanto",
    "es": "Spanish",
    "et": "Estonian",
    "eu": "Basque",
    "fa": "Persian",
    "fi": "Finnish",
    "fil": "Tagalog",
    "fr": "French",
    "ga": "Irish",
    "gu": "Gujarati",
    "hi": "Hindi",
    "hr": "Croatian",
    "hu": "Hungarian",
    "hy": "Armenian",
    "id": "Indonesian",
    "is": "Icelandic",
    "it": "Italian",
    "iw": "Hebrew",
    "ja": "Japanese",
    "jv": "Javanese",
    "ka": "Georgian",
    "kk": "Kazakh",
    "km": "Khmer",
    "kn": "Kannada",
    "ko": "Korean",
    "la": "Latin",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "mi": "Maori",
    "mk": "Macedonian",
    "ml": "Malayalam",
    "mn": "Mongolian",
    "mr": "Marathi",
    "ms": "Malay",
    "my": "Burmese",
    "ne": "Nepali",
    "nl": "Dutch",
    "no": "Bokmal",
    "pa": "Punjabi",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "si": "Sinhalese",
    "sk": "Slovak",
    "sl": "Slovene",
    "sn": "Shona",
    "so": "Somali",
    "sq": "Albanian",
    "sr": "Serbian",
    "st": "Sotho",
    "sv": "Swedish",
    "sw": "Swahili",
    "ta": "Tamil",
    "te": "Telugu",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "uz": "Uzbek",
    "vi": "Vietnamese",
    "xh": "Xhosa",
    "yi": "Yiddish",
    "yo": "Yoruba",
    "zh": "Chinese",
    "zu": "Zulu",
}
_WHATLANG_NAMES = {"zh": "Mandarin"}

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
    """One of IDENTIFIERS, which names a language only if it is surer than ``confidence``, 0 to 1.
    Raises Unimplemented if the library isn't there."""
    detector = _detector()
    names = _NAMES | _WHATLANG_NAMES if name == "whatlang" else _NAMES

    def identify(text: str) -> str:
        if not any(map(str.isalpha, text)):
            return DEFAULT
        found = detector.FindLanguage(text=text)
        if found.probability <= confidence:
            return DEFAULT
        return names.get(found.language, DEFAULT)

    return identify


@lru_cache
def _detector() -> Any:
    try:
        from gcld3 import NNetLanguageIdentifier
    except ImportError:
        raise Unimplemented(
            "the language_identifier tokenizer needs a library that is not installed here: "
            "pip install 'elanus[languages]' where the server runs"
        ) from None
    return NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=LOOKED_AT_BYTES)
