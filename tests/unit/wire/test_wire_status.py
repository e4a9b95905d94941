import pytest

from elanus.errors import (
    CollectionNotFound,
    ElanusError,
    IndexNotFound,
    InputError,
    InvalidParameter,
    RateLimited,
    Rejected,
    SchemaMismatch,
    Unavailable,
)
from elanus.wire import protocol, status
from elanus.wire.protocol import common, milvus


def _all_errors(base=ElanusError):
    yield base
    for child in base.__subclasses__():
        yield from _all_errors(child)


def test_success_is_zero_in_both_codes():
    assert status.success().SerializeToString() == b""


@pytest.mark.parametrize(
    ("error", "code", "legacy", "retriable", "blamed"),
    [
        (CollectionNotFound("default", "x"), 100, 4, False, True),
        (InvalidParameter("bad"), 1100, 5, False, True),
        (IndexNotFound(collection="x"), 700, 25, False, True),
        (SchemaMismatch("x"), 109, 62, False, True),
        (RateLimited("slow down"), 8, 49, True, False),
        (Unavailable("wait"), 2, 1, True, False),
        (Rejected("no"), 65535, 1, False, True),
        (ValueError("oops"), 65535, 1, False, False),
    ],
)
def test_a_failure_tells_codes_reason_and_blame(error, code, legacy, retriable, blamed):
    answer = status.failure(error)
    assert (answer.code, answer.error_code, answer.retriable) == (code, legacy, retriable)
    assert str(error) in answer.reason
    assert answer.detail
    assert dict(answer.extra_info) == ({"is_input_error": "true"} if blamed else {})


def test_no_error_looks_like_success_to_any_client():
    for error_class in _all_errors():
        assert error_class.code != 0
        assert status.legacy_code(error_class.code) != 0
        assert error_class.input_error == issubclass(error_class, InputError)


def test_a_response_carries_the_error_where_its_type_has_room_for_it():
    error = InvalidParameter("bad")
    assert status.respond(common.Status, error).code == 1100
    assert status.respond(milvus.MutationResult, error).status.code == 1100
    without = [m.name for m in protocol.methods().values() if not status.carries_status(m.response)]
    assert without == [
        name
        for name in protocol.methods()
        if name in ("Dummy", "GetReplicateInfo", "CreateReplicateStream", "AlterCollectionSchema")
    ]
    with pytest.raises(TypeError, match="DummyResponse"):
        status.respond(milvus.DummyResponse, error)


def test_describe_collection_has_the_general_code_for_a_missing_collection():
    error = CollectionNotFound("default", "x")
    answer = status.respond(milvus.DescribeCollectionResponse, error).status
    assert (answer.code, answer.error_code) == (100, 1)
    assert answer.reason == "can't find collection[database=default][collection=x]"
    assert status.respond(milvus.ShowPartitionsResponse, error).status.error_code == 4
