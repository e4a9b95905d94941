"""Analyzers with dictionaries of a language, and those that tell the language first."""

import builtins
import threading
from typing import Any

import pytest

from elanus.engine.text.analyzer import Analyzer, Token
from elanus.engine.text.language import _detector
from elanus.engine.text.parameters import make_analyzer
from elanus.errors import Unimplemented

STOPPED = ["助詞", "助詞,係助詞", "助詞,連体化", "記号", "記号,読点", "記号,句点"]


def lindera(dictionary: str, *filters: dict[str, Any]) -> Analyzer:
    tokenizer = {"type": "lindera", "dict_kind": dictionary, "filter": list(filters)}
    return make_analyzer({"tokenizer": tokenizer})


def languages(identifier: Any = "whatlang", **more: Any) -> Analyzer:
    tokenizer = {
        "type": "language_identifier",
        "identifier": identifier,
        "analyzers": {
            "default": {},
            "English": {"type": "english"},
            "chinese": {"type": "chinese"},
            **more,
        },
        "mapping": {"Mandarin": "chinese", "Chinese": "chinese"},
    }
    return make_analyzer({"tokenizer": tokenizer})


@pytest.mark.parametrize(
    ("dictionary", "text", "tokens"),
    [
        ("ipadic", "すもももももももものうち", "すもも も もも も もも の うち"),
        ("ipadic", "東京に行く、はい。", "東京 に 行く 、 はい 。"),
        ("ko-dic", "서울에서", "서울 에서"),
        ("cc-cedict", "可以进行中文形态学分析", "可以 进行 中文 形态学 分析"),
    ],
)
def test_words_of_a_dictionary(dictionary: str, text: str, tokens: str) -> None:
    assert lindera(dictionary).tokens(text) == tokens.split()


def test_words_of_some_kinds_are_dropped_and_leave_their_place() -> None:
    analyzer = lindera("ipadic", {"kind": "japanese_stop_tags", "tags": STOPPED})
    assert analyzer.tokens("東京の空、青い") == ["東京", "空", "青い"]
    assert analyzer.positioned("東京の空") == [("東京", 0), ("空", 2)]
    assert analyzer.detailed("東京の空") == [Token("東京", 0, 6, 0), Token("空", 9, 12, 2)]


def test_only_words_of_some_kinds_are_kept() -> None:
    analyzer = lindera("ko-dic", {"kind": "korean_keep_tags", "tags": ["NNP", "NNG"]})
    assert analyzer.tokens("서울에서") == ["서울"]


def test_threads_share_a_dictionary() -> None:
    analyzer = lindera("ipadic")
    text = "関西国際空港限定トートバッグ。" * 50
    expected, found = analyzer.tokens(text), []
    threads = [
        threading.Thread(target=lambda: found.append(analyzer.tokens(text))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_a_dictionary_that_is_not_here_is_named() -> None:
    with pytest.raises(Unimplemented, match="no dictionary ipadic-neologd"):
        lindera("ipadic-neologd")


@pytest.mark.parametrize("identifier", ["whatlang", "lingua", {"type": "whatlang"}])
def test_a_text_is_read_in_its_language(identifier: Any) -> None:
    analyzer = languages(identifier)
    assert analyzer.tokens("The foxes are jumping over the lazy dogs") == [
        *("fox", "jump", "over", "lazi", "dog")
    ]
    assert analyzer.tokens("我们在北京的大学学习") == ["我们", "在", "北京", "的", "大学", "学习"]
    german = "Die Füchse springen über die faulen Hunde"
    assert analyzer.tokens(german) == german.lower().split()


def test_places_are_those_in_the_text() -> None:
    found = languages().detailed("The foxes are jumping over the lazy dogs")
    assert found[0] == Token("fox", 4, 9, 1)
    assert found[-1] == Token("dog", 36, 40, 7)


def test_an_uncertain_language_is_the_default() -> None:
    analyzer = languages({"type": "whatlang", "confidence": 1.0})
    assert analyzer.tokens("The foxes jump") == ["the", "foxes", "jump"]


@pytest.mark.parametrize(
    ("make", "extra"), [(lambda: lindera("ipadic"), "lindera"), (languages, "languages")]
)
def test_a_missing_library_is_named(make: Any, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name in ("lindera", "gcld3"):
            raise ImportError(name)
        return known(name, *rest, **more)

    _detector.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unimplemented, match=rf"pip install 'elanus\[{extra}\]'"):
        make()
