"""Tokenizers by their parameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from elanus.engine.text.analyzer import Analyzer
from elanus.engine.text.language import (
    DEFAULT,
    IDENTIFIERS,
    Identify,
    LanguageTokenizer,
    identifier,
)
from elanus.engine.text.lindera import DICTIONARIES, TAG_FILTERS, LinderaTokenizer
from elanus.engine.text.parameter_checks import Parameters, check_keys, words_of
from elanus.engine.text.tokenizers import (
    CHARACTER_GROUPS,
    CharacterGroupTokenizer,
    IcuTokenizer,
    JiebaTokenizer,
    TantivyTokenizer,
    Tokenizer,
)
from elanus.errors import InvalidParameter, Unimplemented

UNSERVED_TOKENIZERS = ("grpc", "thai")

MakeAnalyzer = Callable[[Parameters], Analyzer]


def tokenizer_of(described: object, make: MakeAnalyzer) -> Tokenizer:
    """``make``: how the analyzers are made that the tokenizer itself may have. Raises
    InvalidParameter for what describes no tokenizer, Unimplemented for one that isn't served."""
    parameters: Parameters = described if isinstance(described, dict) else {"type": described}
    name = parameters.get("type")
    if not isinstance(name, str) or not name:
        raise InvalidParameter("tokenizer name or type must be set")
    if name in ("standard", "whitespace"):
        check_keys(parameters, ("type",))
        return TantivyTokenizer(name)
    if name == "jieba":
        return _jieba(parameters)
    if name == "icu":
        check_keys(parameters, ("type",))
        return IcuTokenizer()
    if name == "char_group":
        return _character_groups(parameters)
    if name == "lindera":
        return _lindera(parameters)
    if name == "language_identifier":
        return _language_identifier(parameters, make)
    if name in UNSERVED_TOKENIZERS:
        raise Unimplemented(f"the tokenizer {name} is not supported yet")
    raise InvalidParameter(
        f"unsupported tokenizer: {name}",
        expected="standard, whitespace, jieba, icu, char_group, lindera, language_identifier",
        actual=name,
    )


def _jieba(parameters: Parameters) -> Tokenizer:
    check_keys(parameters, ("type", "dict", "mode", "hmm"))
    mode = parameters.get("mode", "search")
    if mode not in ("search", "exact"):
        raise InvalidParameter("invalid jieba mode", expected="search, exact", actual=f"{mode}")
    guess_unknown = parameters.get("hmm", True)
    if not isinstance(guess_unknown, bool):
        raise InvalidParameter(
            "invalid jieba hmm", expected="true, false", actual=f"{guess_unknown}"
        )
    words = words_of(parameters, "dict", ("_default_",))
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
    check_keys(parameters, ("type", "delimiters"))
    delimiters = words_of(parameters, "delimiters", ())
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


def _lindera(parameters: Parameters) -> Tokenizer:
    check_keys(parameters, ("type", "dict_kind", "filter"))
    if "dict_kind" not in parameters:
        raise InvalidParameter("lindera tokenizer dict_kind must be set")
    dictionary = parameters["dict_kind"]
    if not isinstance(dictionary, str):
        raise InvalidParameter("lindera tokenizer dict kind should be string")
    if dictionary not in DICTIONARIES:
        raise InvalidParameter(
            f"unsupported lindera dict type: {dictionary}",
            expected=", ".join(DICTIONARIES),
            actual=dictionary,
        )
    described = parameters.get("filter", [])
    if not isinstance(described, list):
        raise InvalidParameter(f"lindera filter must be a list, but is {described!r}")
    return LinderaTokenizer(dictionary, list(map(_tag_filter, described)))


def _tag_filter(described: object) -> tuple[str, Sequence[str]]:
    if not isinstance(described, dict) or described.get("kind") not in TAG_FILTERS:
        raise InvalidParameter(
            f"unsupported lindera filter: {described!r}",
            expected=f"an object whose kind is one of {', '.join(TAG_FILTERS)}",
            actual=f"{described!r}",
        )
    check_keys(described, ("kind", "tags"))
    tags = words_of(described, "tags", ())
    if not tags:
        raise InvalidParameter(f"lindera filter {described['kind']} tags must be set")
    return described["kind"], tags


def _language_identifier(parameters: Parameters, make: MakeAnalyzer) -> Tokenizer:
    check_keys(parameters, ("type", "analyzers", "identifier", "mapping"))
    described = _dictionary(parameters, "analyzers")
    for name, one in described.items():
        if not isinstance(one, dict):
            raise InvalidParameter(f'sub analyzer "{name}" params must be dict')
    if DEFAULT not in described:
        raise InvalidParameter("default sub analyzer for language identifier analyzer must be set")
    names = _dictionary(parameters, "mapping") if "mapping" in parameters else {}
    if not all(isinstance(name, str) for name in names.values()):
        raise InvalidParameter(f"mapping must map languages to names of analyzers, not {names!r}")
    identify = _identifier(parameters.get("identifier", "whatlang"))
    return LanguageTokenizer(identify, {name: make(one) for name, one in described.items()}, names)


def _identifier(described: object) -> Identify:
    if isinstance(described, str):
        if described not in IDENTIFIERS:
            raise InvalidParameter(f"unknown identifier name: {described}")
        return identifier(described)
    if not isinstance(described, dict):
        raise InvalidParameter("identifier params must be string or dict")
    if "type" not in described:
        raise InvalidParameter("identifier type must be set")
    name, confidence = described["type"], described.get("confidence", 0.0)
    if not isinstance(name, str):
        raise InvalidParameter("identifier type must be string")
    if name not in IDENTIFIERS:
        raise InvalidParameter(f"unknown identifier type: {name}")
    if not isinstance(confidence, int | float) or isinstance(confidence, bool):
        raise InvalidParameter("confidence must be float")
    return identifier(name, confidence)


def _dictionary(parameters: Parameters, key: str) -> Mapping[str, Any]:
    if key not in parameters:
        raise InvalidParameter(f"{key} must be set")
    found: Mapping[str, Any] = parameters[key]
    if not isinstance(found, dict):
        raise InvalidParameter(f"{key} must be dict")
    return found
