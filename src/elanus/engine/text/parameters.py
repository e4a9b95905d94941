"""``analyzer_params`` of a field: JSON to an analyzer, or what is wrong with it.

Two forms: ``{"type": "english", "stop_words": […]}``, and ``{"tokenizer": …, "filter": […]}``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from elanus.engine.text import filters
from elanus.engine.text.analyzer import Analyzer
from elanus.engine.text.filters import TokenFilter
from elanus.engine.text.tokenizers import (
    CHARACTER_GROUPS,
    CharacterGroupTokenizer,
    IcuTokenizer,
    JiebaTokenizer,
    TantivyTokenizer,
    Tokenizer,
)
from elanus.errors import InvalidParameter, Unimplemented

Parameters = Mapping[str, Any]

KEPT_ANALYZERS = 64
UNSERVED_TOKENIZERS = ("lindera", "language_identifier", "grpc", "thai")

_PLAIN_FILTERS: dict[str, Callable[[], TokenFilter]] = {
    "lowercase": lambda: filters.lowercase,
    "asciifolding": filters.ascii_folding,
    "alphanumonly": lambda: filters.alphanumeric_only,
    "cncharonly": lambda: filters.han_only,
    "cnalphanumonly": lambda: filters.han_or_alphanumeric_only,
    "removepunct": lambda: filters.without_punctuation,
}


@lru_cache(KEPT_ANALYZERS)
def analyzer_of(text: str) -> Analyzer:
    """The analyzer that this JSON text describes; empty: the standard one.

    Raises InvalidParameter for what isn't a description of one, Unimplemented for a part that is
    not served.
    """
    try:
        parsed = orjson.loads(text or "{}")
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(f"analyzer params are not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise InvalidParameter(f"analyzer params must be a JSON object, but are {text}")
    return make_analyzer(parsed)


def make_analyzer(parameters: Parameters) -> Analyzer:
    """``analyzer_of`` for parsed parameters, which is not remembered."""
    if "type" in parameters:
        _check_keys(parameters, ("type", "stop_words"))
        return _built_in(parameters["type"], _words_of(parameters, "stop_words", ()))
    _check_keys(parameters, ("tokenizer", "filter"))
    if not parameters:
        return _built_in("standard", ())
    chain = parameters.get("filter", [])
    if not isinstance(chain, list):
        raise InvalidParameter(f"analyzer filter must be a list, but is {chain!r}")
    return Analyzer(_tokenizer(parameters.get("tokenizer")), map(_filter, chain))


def _built_in(name: object, stop_words: Sequence[str]) -> Analyzer:
    standard = TantivyTokenizer("standard")
    if name == "standard":
        extra = [_stop(stop_words)] if stop_words else []
        return Analyzer(standard, [filters.lowercase, *extra])
    if name == "english":
        extra = [_stop(("_english_", *stop_words))]
        return Analyzer(standard, [filters.lowercase, filters.stemmer("english"), *extra])
    if name == "chinese":
        extra = [_stop(stop_words)] if stop_words else []
        return Analyzer(JiebaTokenizer(), [filters.han_or_alphanumeric_only, *extra])
    raise InvalidParameter(
        f"unknown build-in analyzer type: {name}",
        expected="standard, english, chinese",
        actual=f"{name}",
    )


def _tokenizer(described: object) -> Tokenizer:
    parameters: Parameters = described if isinstance(described, dict) else {"type": described}
    name = parameters.get("type")
    if not isinstance(name, str) or not name:
        raise InvalidParameter("tokenizer name or type must be set")
    if name in ("standard", "whitespace"):
        _check_keys(parameters, ("type",))
        return TantivyTokenizer(name)
    if name == "jieba":
        return _jieba(parameters)
    if name == "icu":
        _check_keys(parameters, ("type",))
        return IcuTokenizer()
    if name == "char_group":
        return _character_groups(parameters)
    if name in UNSERVED_TOKENIZERS:
        raise Unimplemented(f"the tokenizer {name} is not supported yet")
    raise InvalidParameter(
        f"unsupported tokenizer: {name}",
        expected="standard, whitespace, jieba, icu, char_group",
        actual=name,
    )


def _jieba(parameters: Parameters) -> Tokenizer:
    _check_keys(parameters, ("type", "dict", "mode", "hmm"))
    mode = parameters.get("mode", "search")
    if mode not in ("search", "exact"):
        raise InvalidParameter("invalid jieba mode", expected="search, exact", actual=f"{mode}")
    guess_unknown = parameters.get("hmm", True)
    if not isinstance(guess_unknown, bool):
        raise InvalidParameter(
            "invalid jieba hmm", expected="true, false", actual=f"{guess_unknown}"
        )
    words = _words_of(parameters, "dict", ("_default_",))
    defaults = [word for word in words if word in ("_default_", "_extend_default_")]
    if len(defaults) > 1:
        raise InvalidParameter(f"jieba dict can only set one default dict, but has {defaults}")
    return JiebaTokenizer(
        search=mode == "search",
        guess_unknown=guess_unknown,
        default_dictionary=bool(defaults),
        own_words=[word for word in words if word not in defaults],
    )


def _character_groups(parameters: Parameters) -> Tokenizer:
    _check_keys(parameters, ("type", "delimiters"))
    delimiters = _words_of(parameters, "delimiters", ())
    for name in delimiters:
        if len(name) != 1 and name not in CHARACTER_GROUPS:
            raise InvalidParameter(
                "invalid delimiter of the char_group tokenizer",
                expected=f"one character, or {', '.join(CHARACTER_GROUPS)}",
                actual=name,
            )
    if not delimiters:
        raise InvalidParameter("char_group tokenizer delimiters can't be empty")
    return CharacterGroupTokenizer(delimiters)


def _filter(described: object) -> TokenFilter:
    if isinstance(described, str):
        if described in _PLAIN_FILTERS:
            return _PLAIN_FILTERS[described]()
        raise InvalidParameter(f"build analyzer failed, filter not found :{described}")
    if not isinstance(described, dict) or not isinstance(described.get("type"), str):
        raise InvalidParameter(
            f"build analyzer failed, a filter is a name or an object with a type, not {described!r}"
        )
    name = described["type"]
    make = _FILTERS_WITH_PARAMETERS.get(name)
    if make is None:
        raise InvalidParameter(
            f"unsupport filter type: {name}",
            expected=", ".join(_FILTERS_WITH_PARAMETERS),
            actual=name,
        )
    return make(described)


def _length_filter(parameters: Parameters) -> TokenFilter:
    _check_keys(parameters, ("type", "max"))
    most_bytes = parameters.get("max")
    if not isinstance(most_bytes, int) or isinstance(most_bytes, bool) or most_bytes < 0:
        raise InvalidParameter("lenth max param was none or not uint")
    return filters.length(most_bytes)


def _stop_filter(parameters: Parameters) -> TokenFilter:
    _check_keys(parameters, ("type", "stop_words"))
    words = _words_of(parameters, "stop_words", ())
    if not words:
        raise InvalidParameter("stop filter stop_words can't be empty")
    return _stop(words)


def _stop(words: Sequence[str]) -> TokenFilter:
    """``_english_`` and the like stand for a language's list."""
    names = {f"_{language}_": language for language in filters.STOP_WORD_LANGUAGES}
    return filters.stop(
        [word for word in words if word not in names],
        [names[word] for word in words if word in names],
    )


def _stemmer_filter(parameters: Parameters) -> TokenFilter:
    _check_keys(parameters, ("type", "language"))
    language = parameters.get("language")
    if not isinstance(language, str):
        raise InvalidParameter("stemmer language field should be string")
    if language.lower() not in filters.STEMMER_LANGUAGES:
        raise InvalidParameter(
            f"unsupport language: {language}",
            expected=", ".join(filters.STEMMER_LANGUAGES),
            actual=language,
        )
    return filters.stemmer(language.lower())


def _decompounder_filter(parameters: Parameters) -> TokenFilter:
    _check_keys(parameters, ("type", "word_list"))
    words = parameters.get("word_list")
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise InvalidParameter("decompounder word list should be array")
    return filters.decompounder(words)


def _regex_filter(parameters: Parameters) -> TokenFilter:
    _check_keys(parameters, ("type", "expr"))
    expression = parameters.get("expr")
    if not isinstance(expression, str):
        raise InvalidParameter("regex expr field should be string")
    try:
        return filters.matching(expression)
    except ValueError as error:
        raise InvalidParameter(f"regex expr {expression!r} is not valid: {error}") from None


_FILTERS_WITH_PARAMETERS: dict[str, Callable[[Parameters], TokenFilter]] = {
    "length": _length_filter,
    "stop": _stop_filter,
    "stemmer": _stemmer_filter,
    "decompounder": _decompounder_filter,
    "regex": _regex_filter,
}


def _words_of(parameters: Parameters, key: str, default: Sequence[str]) -> Sequence[str]:
    words = parameters.get(key, default)
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise InvalidParameter(f"analyzer {key} must be a list of strings, but is {words!r}")
    return words


def _check_keys(parameters: Parameters, known: Sequence[str]) -> None:
    for key in parameters:
        if key not in known:
            raise InvalidParameter(
                f"unknown analyzer option key: {key}", expected=", ".join(known), actual=key
            )
