"""Retries of requests to a remote store, on a clock that only sleeping moves."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError

from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.storage.objects.failures import Kind, RequestFailed, understand
from elanus.storage.objects.ranges import Span, merge, split
from elanus.storage.objects.retry import Requests, RetryBudget, RetryPolicy
from elanus.storage.objects.stats import ObjectStats

POLICY = RetryPolicy(attempt_s=10.0, total_s=60.0, max_retries=5, max_concurrent=4)
BUSY = (
    "Generic S3 error: Error performing PUT http://h/b/k in 1ms - Server returned non-2xx status "
    "code: 503 Service Unavailable: <Error><Code>SlowDown</Code></Error>"
)


class SleepingClock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now_ms(self) -> int:
        return int(self.now_s * 1_000)

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


class Fixture:
    def __init__(self, policy: RetryPolicy = POLICY) -> None:
        self.clock = SleepingClock()
        world = World(
            clock=self.clock,
            random=random.Random(1),
            executor=ThreadExecutor(cores=1),
            tasks=TaskSupervisor(),
            failpoints=Failpoints(),
            memory=MemoryLedger(1 << 20),
        )
        self.stats = ObjectStats()
        self.budget = RetryBudget(self.clock)
        self.requests = Requests(world, policy, self.stats, self.budget)


def failing(times: int, error: Exception) -> Callable[[], Awaitable[str]]:
    left = times

    async def attempt() -> str:
        nonlocal left
        if left:
            left -= 1
            raise error
        return "done"

    return attempt


async def test_what_may_pass_is_tried_again() -> None:
    fixture = Fixture()
    assert await fixture.requests.run("put", "k", failing(5, GenericError(BUSY))) == "done"
    assert fixture.stats.retries == 5
    assert fixture.stats.requests == {("put", "retried"): 5, ("put", "ok"): 1}


async def test_retries_end_with_the_last_reason() -> None:
    fixture = Fixture()
    with pytest.raises(RequestFailed, match="503 SlowDown"):
        await fixture.requests.run("put", "k", failing(99, GenericError(BUSY)))
    assert fixture.stats.total_requests == 1 + POLICY.max_retries


async def test_what_will_not_pass_is_not_tried_again() -> None:
    fixture = Fixture()
    with pytest.raises(RequestFailed):
        await fixture.requests.run("get", "k", failing(1, PermissionDeniedError("403")))
    assert fixture.stats.retries == 0


async def test_the_deadline_covers_attempts_and_pauses() -> None:
    fixture = Fixture(RetryPolicy(10.0, 60.0, max_retries=10_000, max_concurrent=1))

    async def slow() -> None:
        fixture.clock.now_s += 9.0
        raise TimeoutError

    with pytest.raises(RequestFailed, match="no answer in time"):
        await fixture.requests.run("get", "k", slow)
    assert fixture.clock.now_s <= 60.0 + 9.0


async def test_an_outage_is_not_amplified() -> None:
    """Of many requests that all fail, hardly more than the budget's share is sent again."""
    fixture = Fixture(RetryPolicy(10.0, 60.0, max_retries=100, max_concurrent=4))
    requests = 60

    async def one() -> None:
        with pytest.raises(RequestFailed):
            await fixture.requests.run("get", "k", failing(10_000, GenericError(BUSY)))

    for _ in range(requests):
        await one()
    burst, share, per_s = 100, 0.2, 10
    assert fixture.stats.retries <= burst + share * requests + per_s * fixture.clock.now_s + 1


async def test_few_requests_are_in_flight_and_waiters_keep_their_order() -> None:
    fixture = Fixture()
    running = most = 0
    order: list[int] = []

    async def attempt(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(number)
        await asyncio.sleep(0)
        running -= 1

    def start(number: int) -> Awaitable[None]:
        return fixture.requests.run("get", "k", lambda: attempt(number))

    await asyncio.gather(*(start(number) for number in range(50)))
    assert most == POLICY.max_concurrent
    assert order == list(range(50))


async def test_wide_requests_do_not_wait_for_each_other_for_ever() -> None:
    fixture = Fixture()

    async def attempt() -> None:
        await asyncio.sleep(0)

    await asyncio.gather(
        *(fixture.requests.run("put", "k", attempt, width=3) for _ in range(10)),
        *(fixture.requests.run("put", "k", attempt, width=99) for _ in range(10)),
    )
    assert fixture.stats.total_requests == 20


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (GenericError(BUSY), Kind.PASSING),
        (GenericError("status code: 429 Too Many Requests: "), Kind.PASSING),
        (GenericError("status code: 500: <Code>InternalError</Code>"), Kind.PASSING),
        (GenericError("status code: 400: <Code>XAmzContentSHA256Mismatch</Code>"), Kind.PASSING),
        (GenericError("HTTP error: error sending request"), Kind.PASSING),
        (TimeoutError(), Kind.PASSING),
        (FileNotFoundError("status code: 404: <Code>NoSuchKey</Code>"), Kind.MISSING),
        (FileNotFoundError("status code: 404: <Code>NoSuchBucket</Code>"), Kind.NO_BUCKET),
        (FileNotFoundError("status code: 404: <Code>ContainerNotFound</Code>"), Kind.NO_BUCKET),
        (AlreadyExistsError("status code: 412"), Kind.TAKEN),
        (AlreadyExistsError("status code: 409"), Kind.TAKEN),
        (PermissionDeniedError("status code: 403: <Code>AccessDenied</Code>"), Kind.DENIED),
        (GenericError("status code: 507: <Code>XMinioStorageFull</Code>"), Kind.FULL),
        (GenericError("status code: 400: <Code>InvalidArgument</Code>"), Kind.REFUSED),
        (GenericError("status code: 501: <Code>NotImplemented</Code>"), Kind.UNSUPPORTED),
        (GenericError("status code: 416: <Code>InvalidRange</Code>"), Kind.OUT_OF_RANGE),
    ],
)
def test_errors_are_understood(error: OSError, kind: Kind) -> None:
    assert understand(error).kind is kind


def test_a_reason_has_nothing_of_the_answer_but_its_code() -> None:
    text = (
        "status code: 403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code>"
        "<AWSAccessKeyId>AKIASECRET</AWSAccessKeyId><StringToSign>abc</StringToSign></Error>"
    )
    reason = understand(PermissionDeniedError(text)).reason
    assert reason == "the store answered 403 SignatureDoesNotMatch"


def test_near_ranges_share_a_request() -> None:
    assert merge([(50, 10), (0, 10), (15, 5), (7, 0)], max_gap=5, max_length=100) == [
        Span(0, 20),
        Span(50, 60),
    ]
    assert merge([(0, 60), (62, 60)], max_gap=5, max_length=100) == [Span(0, 60), Span(62, 122)]
    assert merge([(0, 200), (10, 20)], max_gap=5, max_length=100) == [Span(0, 200)]
    assert split(10, 25, 10) == [Span(10, 20), Span(20, 30), Span(30, 35)]
    assert split(10, 0, 10) == []
