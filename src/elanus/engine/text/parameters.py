"""``analyzer_params`` of a field: JSON to an analyzer, or what is wrong with it.

Two forms: ``{"type": "english", "stop_words": […]}``, and ``{"tokenizer": …, "filter": […]}``.
"""

from collections.abc import Sequence
from functools import lru_cache, partial

import orjson

from elanus.engine.text import filters
from elanus.engine.text.analyzer import Analyzer
from elanus.engine.text.filter_parameters import filter_of, stop_filter
from elanus.engine.text.parameter_checks import Parameters, check_keys, words_of
from elanus.engine.text.tokenizer_parameters import tokenizer_of
from elanus.engine.text.tokenizers import JiebaTokenizer, TantivyTokenizer
from elanus.errors import InvalidParameter

KEPT_ANALYZERS = 64
MAX_NESTING = 8
"""Analyzers of languages within each other."""


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


def make_analyzer(parameters: Parameters, nesting: int = 0) -> Analyzer:
    """``analyzer_of`` for parsed parameters, which is not remembered. ``nesting``: of how many
    others this one is a part."""
    if nesting > MAX_NESTING:
        raise InvalidParameter(f"analyzers can be nested at most {MAX_NESTING} deep")
    if "type" in parameters:
        check_keys(parameters, ("type", "stop_words"))
        return _built_in(parameters["type"], words_of(parameters, "stop_words", ()))
    check_keys(parameters, ("tokenizer", "filter"))
    if not parameters:
        return _built_in("standard", ())
    chain = parameters.get("filter", [])
    if not isinstance(chain, list):
        raise InvalidParameter(f"analyzer filter must be a list, but is {chain!r}")
    inner = partial(make_analyzer, nesting=nesting + 1)
    return Analyzer(tokenizer_of(parameters.get("tokenizer"), inner), map(filter_of, chain))


def _built_in(name: object, stop_words: Sequence[str]) -> Analyzer:
    standard = TantivyTokenizer("standard")
    if name == "standard":
        extra = [stop_filter(stop_words)] if stop_words else []
        return Analyzer(standard, [filters.lowercase, *extra])
    if name == "english":
        extra = [stop_filter(("_english_", *stop_words))]
        return Analyzer(standard, [filters.lowercase, filters.stemmer("english"), *extra])
    if name == "chinese":
        extra = [stop_filter(stop_words)] if stop_words else []
        return Analyzer(JiebaTokenizer(), [filters.han_or_alphanumeric_only, *extra])
    raise InvalidParameter(
        f"unknown build-in analyzer type: {name}",
        expected="standard, english, chinese",
        actual=f"{name}",
    )
