"""Fields found among the bytes of a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.wire.fields import place_of
from elanus.wire.protocol import milvus

NUMBER = milvus.SearchRequest.PLACEHOLDER_GROUP_FIELD_NUMBER


@given(st.binary(min_size=1, max_size=300), st.text(max_size=200), st.integers(0, 2**63))
def test_a_field_is_where_its_content_stands(group: bytes, dsl: str, timestamp: int) -> None:
    request = milvus.SearchRequest(
        collection_name="things",
        dsl=dsl,
        placeholder_group=group,
        guarantee_timestamp=timestamp,
        nq=1,
    )
    request.search_params.add(key="topk", value="10")
    data = request.SerializeToString()
    place = place_of(data, NUMBER)
    assert place is not None
    assert data[place[0] : place[1]] == group
    other = bytes(len(group))
    request.placeholder_group = other
    changed = data[: place[0]] + other + data[place[1] :]
    assert milvus.SearchRequest.FromString(changed) == request


def test_content_that_looks_like_the_field_is_not_taken_for_it() -> None:
    inner = milvus.SearchRequest(placeholder_group=b"inner").SerializeToString().decode()
    request = milvus.SearchRequest(dsl=inner, placeholder_group=b"outer")
    data = request.SerializeToString()
    place = place_of(data, NUMBER)
    assert place is not None
    assert data[place[0] : place[1]] == b"outer"


@given(st.binary(max_size=60))
def test_any_bytes_have_a_place_within_them_or_none(data: bytes) -> None:
    place = place_of(data, NUMBER)
    assert place is None or 0 < place[0] <= place[1] <= len(data)


_GROUP = milvus.SearchRequest(placeholder_group=b"abc").SerializeToString()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        milvus.SearchRequest(nq=1).SerializeToString(),
        _GROUP + _GROUP,
        _GROUP[:-1],
        _GROUP + b"\x08",
        _GROUP + b"\x0b\x0c",
        bytes((NUMBER << 3, 1)),
    ],
    ids=["empty", "not there", "twice", "cut off", "then cut off", "then a group", "a number"],
)
def test_what_is_not_there_once_has_no_place(data: bytes) -> None:
    assert place_of(data, NUMBER) is None
