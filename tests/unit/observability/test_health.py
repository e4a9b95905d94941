"""A failure shows for a while; a start that isn't finished is not healthy."""

from elanus.observability.health import FAILURE_SHOWN_S, Health


def test_a_process_is_unhealthy_until_it_has_started() -> None:
    health = Health(lambda: 0.0)
    assert health.reasons == ["starting"]
    health.started()
    assert health.reasons == []


def test_a_failed_task_is_named_until_some_time_has_passed() -> None:
    now_s = 0.0
    health = Health(lambda: now_s)
    health.started()
    health.failed("flush", "InternalError: no room")
    assert health.reasons == ["flush failed: InternalError: no room"]
    now_s = FAILURE_SHOWN_S
    assert health.reasons == []
