"""What analyzers make of a text, and what is said of parameters that are wrong."""

import threading

import pytest

from elanus.engine.text.analyzer import Token, dimension_of
from elanus.engine.text.parameters import analyzer_of
from elanus.errors import InvalidParameter, Unimplemented

STANDARD = '{"tokenizer": "standard", "filter": [%s]}'
LINDERA = '{"tokenizer": {"type": "lindera", "dict_kind": %s, "filter": [%s]}}'
LANGUAGES = '{"tokenizer": {"type": "language_identifier", "analyzers": %s%s}}'
DEFAULT = '{"default": {}}'
WITHOUT_CONFIDENCE = ', "identifier": {"type": "whatlang", "confidence": "high"}'


def nested(times: int) -> str:
    analyzers = DEFAULT
    for _ in range(times):
        analyzers = DEFAULT.replace("{}", LANGUAGES % (analyzers, ""))
    return LANGUAGES % (analyzers, "")


@pytest.mark.parametrize(
    ("parameters", "text", "tokens"),
    [
        ("", "The Quick, brown_FOX 数据库!", ["the", "quick", "brown", "fox", "数据库"]),
        ('{"type": "standard", "stop_words": ["fox"]}', "A Fox", ["a"]),
        ('{"type": "english"}', "The foxes are being this", ["fox"]),
        ('{"type": "chinese"}', "南京, Hello", ["南京", "Hello"]),
        ('{"tokenizer": "whitespace"}', "Don't  stop,now", ["Don't", "stop,now"]),
        ('{"tokenizer": {"type": "jieba", "mode": "exact"}}', "长江大桥", ["长江大桥"]),
        ('{"tokenizer": {"type": "jieba", "dict": ["江大"], "hmm": false}}', "长江大桥", None),
        (
            '{"tokenizer": {"type": "char_group", "delimiters": ["whitespace", "-"]}}',
            "a-b c",
            ["a", "b", "c"],
        ),
        (STANDARD % '"lowercase", "asciifolding"', "Été ŒUVRE", ["ete", "oeuvre"]),
        (STANDARD % '"alphanumonly"', "abc été a1", ["abc", "a1"]),
        (STANDARD % '"cncharonly"', "abc 数据", ["数据"]),
        (STANDARD % '"cnalphanumonly"', "abc 数据 éé", ["abc", "数据"]),
        ('{"tokenizer": "whitespace", "filter": ["removepunct"]}', "a -- b!", ["a", "b!"]),
        (STANDARD % '{"type": "length", "max": 3}', "abc été abcd", ["abc"]),
        (STANDARD % '{"type": "stop", "stop_words": ["_english_", "x"]}', "the x y", ["y"]),
        (STANDARD % '{"type": "stemmer", "language": "german"}', "häuser", ["haus"]),
        (
            STANDARD % '{"type": "decompounder", "word_list": ["dampf", "schiff"]}',
            "dampfschiff dampfer",
            ["dampf", "schiff", "dampfer"],
        ),
        (STANDARD % '{"type": "regex", "expr": "^[a-c]"}', "apple zoo cat", ["apple", "cat"]),
    ],
)
def test_tokens(parameters: str, text: str, tokens: list[str] | None) -> None:
    if tokens is None:
        tokens = ["长", "江大", "桥"]
    assert analyzer_of(parameters).tokens(text) == tokens
    assert [token.text for token in analyzer_of(parameters).detailed(text)] == tokens


def test_icu_keeps_blanks_and_punctuation() -> None:
    pytest.importorskip("icu4py")
    analyzer = analyzer_of('{"tokenizer": "icu"}')
    assert analyzer.tokens("Don't go.") == ["Don't", " ", "go", "."]


def test_offsets_are_bytes_and_positions_count_dropped_words() -> None:
    analyzer = analyzer_of('{"type": "english"}')
    assert analyzer.detailed("été of Foxes") == [
        Token("été", 0, 5, 0),
        Token("fox", 9, 14, 2),
    ]


def test_dimensions_are_those_of_milvus() -> None:
    assert dimension_of("abcdef") == 1267612143
    assert dimension_of("milvus") == 725768567


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("[", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"typ": "english"}', "unknown analyzer option key: typ"),
        ('{"type": "klingon"}', "unknown build-in analyzer type: klingon"),
        ('{"filter": ["lowercase"]}', "tokenizer name or type must be set"),
        ('{"tokenizer": {}}', "tokenizer name or type must be set"),
        ('{"tokenizer": "x"}', "unsupported tokenizer: x"),
        ('{"tokenizer": "standard", "filter": "lowercase"}', "filter must be a list"),
        (STANDARD % '"x"', "build analyzer failed, filter not found :x"),
        (STANDARD % "3", "a filter is a name or an object"),
        (STANDARD % '{"type": "lowercase"}', "unsupport filter type: lowercase"),
        (STANDARD % '{"type": "length"}', "lenth max param was none or not uint"),
        (STANDARD % '{"type": "stop"}', "stop filter stop_words can't be empty"),
        (STANDARD % '{"type": "stemmer"}', "stemmer language field should be string"),
        (STANDARD % '{"type": "stemmer", "language": "x"}', "unsupport language: x"),
        (STANDARD % '{"type": "decompounder"}', "decompounder word list should be array"),
        (STANDARD % '{"type": "regex", "expr": "("}', "regex expr"),
        ('{"tokenizer": {"type": "jieba", "mode": "x"}}', "invalid jieba mode"),
        ('{"tokenizer": {"type": "char_group", "delimiters": ["ab"]}}', "invalid delimiter"),
        ('{"tokenizer": "lindera"}', "lindera tokenizer dict_kind must be set"),
        (LINDERA % ("3", ""), "lindera tokenizer dict kind should be string"),
        (LINDERA % ('"x"', ""), "unsupported lindera dict type: x"),
        (LINDERA % ('"ipadic"', '"x"'), "unsupported lindera filter: 'x'"),
        (LINDERA % ('"ipadic"', '{"kind": "korean_stop_tags"}'), "tags must be set"),
        ('{"tokenizer": "language_identifier"}', "analyzers must be set"),
        (LANGUAGES % ("[]", ""), "analyzers must be dict"),
        (LANGUAGES % ('{"a": 1}', ""), 'sub analyzer "a" params must be dict'),
        (LANGUAGES % ('{"a": {}}', ""), "default sub analyzer for language identifier analyzer"),
        (LANGUAGES % (DEFAULT, ', "mapping": []'), "mapping must be dict"),
        (LANGUAGES % (DEFAULT, ', "identifier": "x"'), "unknown identifier name: x"),
        (LANGUAGES % (DEFAULT, ', "identifier": 1'), "identifier params must be string or dict"),
        (LANGUAGES % (DEFAULT, ', "identifier": {}'), "identifier type must be set"),
        (LANGUAGES % (DEFAULT, ', "identifier": {"type": "x"}'), "unknown identifier type: x"),
        (LANGUAGES % (DEFAULT, WITHOUT_CONFIDENCE), "confidence must be float"),
        (nested(8), "analyzers can be nested at most 8 deep"),
    ],
)
def test_wrong_parameters_say_what_is_wrong(parameters: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        analyzer_of(parameters)
    assert message in raised.value.message


def test_what_is_not_served_says_so() -> None:
    with pytest.raises(Unimplemented, match="thai"):
        analyzer_of('{"tokenizer": "thai"}')


def test_threads_share_an_analyzer() -> None:
    analyzer = analyzer_of('{"type": "english"}')
    text = " ".join(f"jumping{number}" for number in range(2_000))
    answers: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(analyzer.tokens(text))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[f"jumping{number}" for number in range(2_000)]] * 4
