import pytest

from elanus.access.rest.bodies import Body, as_texts, parse_body
from elanus.access.rest.errors import MissingParameters, NotJson


def test_integers_beyond_a_double_survive() -> None:
    assert parse_body(b'{"n": 9223372036854775807}').integer("n", 0) == 9223372036854775807


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff"])
def test_what_is_not_an_object_is_refused(content: bytes) -> None:
    with pytest.raises(NotJson, match="can only accept json format request, error: ") as caught:
        parse_body(content)
    assert caught.value.code == 1801


@pytest.mark.parametrize(
    ("method", "value", "wanted"),
    [
        ("text", 3, "a string, but got number"),
        ("flag", "true", "a boolean, but got string"),
        ("array", {}, "an array, but got object"),
        ("texts", ["a", 1], "an array of strings, but got number"),
        ("mapping", [], "an object, but got array"),
        ("parts", [1], "an array of objects, but got number"),
    ],
)
def test_another_type_is_named(method: str, value: object, wanted: str) -> None:
    with pytest.raises(NotJson, match=f"'key' should be {wanted}"):
        getattr(Body({"key": value}), method)("key")


@pytest.mark.parametrize("value", [True, "3", 1.5])
def test_an_integer_is_neither_boolean_nor_text_nor_fraction(value: object) -> None:
    with pytest.raises(NotJson, match="should be an integer"):
        Body({"limit": value}).integer("limit", 1)


def test_the_place_of_a_nested_value_is_named() -> None:
    body = Body({"schema": {"fields": [{"fieldName": 1}]}})
    with pytest.raises(NotJson, match=r"'schema\.fields\[0\]\.fieldName' should be a string"):
        body.part("schema").parts("fields")[0].text("fieldName")


@pytest.mark.parametrize("values", [{}, {"name": None}, {"name": ""}])
def test_an_empty_required_text_is_missing(values: dict[str, object]) -> None:
    with pytest.raises(MissingParameters, match="'name' is required") as caught:
        Body(values).required_text("name")
    assert caught.value.code == 1802


def test_keys_are_found_in_any_case_and_the_exact_one_wins() -> None:
    assert Body({"autoId": True}).flag("autoID") is True
    assert Body({"autoid": False, "autoID": True}).flag("autoID") is True


def test_properties_become_text() -> None:
    given = {"a": "x", "b": 3, "c": True, "d": {"e": [1]}, "f": None, "g": 0.5}
    assert as_texts(given) == {"a": "x", "b": "3", "c": "true", "d": '{"e":[1]}', "g": "0.5"}
