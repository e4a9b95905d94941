"""Analyzers as clients use them: tried out, and checked when a collection is made."""

import pytest
from pymilvus import DataType, MilvusClient, MilvusException


def text_schema(client: MilvusClient, **options):
    schema = client.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("language", DataType.VARCHAR, max_length=20)
    schema.add_field("text", DataType.VARCHAR, max_length=1_000, **options)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    return schema


def test_run_analyzer(client: MilvusClient):
    found = client.run_analyzer(["The Foxes", "été"], {"type": "english"})
    assert [result.tokens for result in found] == [["fox"], ["été"]]
    detailed = client.run_analyzer("été of milvus", "{}", with_detail=True, with_hash=True).tokens
    assert detailed[2].dict == {
        "token": "milvus",
        "start_offset": 9,
        "end_offset": 15,
        "position": 2,
        "position_length": 1,
        "hash": 725768567,
    }
    japanese = {"tokenizer": {"type": "lindera", "dict_kind": "ipadic"}}
    assert client.run_analyzer("東京に行く", japanese).tokens == ["東京", "に", "行く"]
    languages = {"default": {}, "English": {"type": "english"}, "Mandarin": {"type": "chinese"}}
    identified = {"tokenizer": {"type": "language_identifier", "analyzers": languages}}
    texts = ["The foxes are jumping over the lazy dogs", "我们在北京的大学学习"]
    english, chinese = client.run_analyzer(texts, identified)
    assert english.tokens == ["fox", "jump", "over", "lazi", "dog"]
    assert chinese.tokens == ["我们", "在", "北京", "的", "大学", "学习"]
    with pytest.raises(MilvusException, match="dict_kind must be set"):
        client.run_analyzer("x", {"tokenizer": "lindera"})
    with pytest.raises(MilvusException, match="filter not found :nope"):
        client.run_analyzer("x", {"tokenizer": "standard", "filter": ["nope"]})


def test_run_analyzer_of_a_field(client: MilvusClient, name: str):
    several = {
        "by_field": "language",
        "analyzers": {"default": {}, "en": {"type": "english"}},
        "alias": {"english": "en"},
    }
    schema = text_schema(client, enable_analyzer=True, multi_analyzer_params=several)
    client.create_collection(name, schema=schema)
    found = client.run_analyzer(
        ["the foxes", "the foxes"],
        collection_name=name,
        field_name="text",
        analyzer_names=["english", "klingon"],
    )
    assert [result.tokens for result in found] == [["fox"], ["the", "foxes"]]
    with pytest.raises(MilvusException, match="field language not exist"):
        client.run_analyzer("x", collection_name=name, field_name="language")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enable_analyzer": True, "analyzer_params": {"type": "x"}}, "analyzer type: x"),
        ({"enable_match": True}, "must also enable_analyzer"),
        (
            {"enable_analyzer": True, "multi_analyzer_params": {"by_field": "language"}},
            "must set analyzers",
        ),
        (
            {
                "enable_analyzer": True,
                "multi_analyzer_params": {"by_field": "nope", "analyzers": {"default": {}}},
            },
            'dependent field "nope" not exist',
        ),
    ],
)
def test_wrong_analyzers_are_refused(client: MilvusClient, name: str, options, message):
    with pytest.raises(MilvusException, match=message):
        client.create_collection(name, schema=text_schema(client, **options))
    assert not client.has_collection(name)
