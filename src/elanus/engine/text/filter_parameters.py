"""Token filters by their parameters."""

from collections.abc import Callable, Sequence

from elanus.engine.text import filters
from elanus.engine.text.filters import TokenFilter
from elanus.engine.text.parameter_checks import Parameters, check_keys, words_of
from elanus.errors import InvalidParameter

_PLAIN_FILTERS: dict[str, Callable[[], TokenFilter]] = {
    "lowercase": lambda: filters.lowercase,
    "asciifolding": filters.ascii_folding,
    "alphanumonly": lambda: filters.alphanumeric_only,
    "cncharonly": lambda: filters.han_only,
    "cnalphanumonly": lambda: filters.han_or_alphanumeric_only,
    "removepunct": lambda: filters.without_punctuation,
}


def filter_of(described: object) -> TokenFilter:
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
    check_keys(parameters, ("type", "max"))
    most_bytes = parameters.get("max")
    if not isinstance(most_bytes, int) or isinstance(most_bytes, bool) or most_bytes < 0:
        raise InvalidParameter("lenth max param was none or not uint")
    return filters.length(most_bytes)


def _stop_filter(parameters: Parameters) -> TokenFilter:
    check_keys(parameters, ("type", "stop_words"))
    words = words_of(parameters, "stop_words", ())
    if not words:
        raise InvalidParameter("stop filter stop_words can't be empty")
    return stop_filter(words)


def stop_filter(words: Sequence[str]) -> TokenFilter:
    """``_english_`` and the like stand for a language's list."""
    names = {f"_{language}_": language for language in filters.STOP_WORD_LANGUAGES}
    return filters.stop(
        [word for word in words if word not in names],
        [names[word] for word in words if word in names],
    )


def _stemmer_filter(parameters: Parameters) -> TokenFilter:
    check_keys(parameters, ("type", "language"))
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
    check_keys(parameters, ("type", "word_list"))
    words = parameters.get("word_list")
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise InvalidParameter("decompounder word list should be array")
    return filters.decompounder(words)


def _regex_filter(parameters: Parameters) -> TokenFilter:
    check_keys(parameters, ("type", "expr"))
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
