"""Calls on threads: answers, errors, order, cancellation, the end."""

import asyncio
import threading

import pytest

from elanus.runtime.threads import ThreadPool


@pytest.fixture
def pool():
    pool = ThreadPool("test", 2)
    yield pool
    pool.close()


async def test_the_answer_and_the_error_of_a_call_reach_its_caller(pool: ThreadPool) -> None:
    assert await pool.submit(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await pool.submit(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.submit(lambda: next(iter([])))


async def test_as_many_calls_run_at_once_as_there_are_threads(pool: ThreadPool) -> None:
    together = threading.Barrier(2)
    names = await asyncio.gather(*(pool.submit(lambda: meet(together)) for _ in range(4)))
    assert set(names) == {"test_0", "test_1"}


def meet(barrier: threading.Barrier) -> str:
    barrier.wait(timeout=30)
    return threading.current_thread().name


async def test_each_thread_is_prepared_before_its_first_call() -> None:
    prepared = threading.local()

    def prepare() -> None:
        prepared.done = True

    pool = ThreadPool("prepared", 2, prepare)
    together = threading.Barrier(2)

    def seen() -> bool:
        together.wait(timeout=30)
        return bool(prepared.done)

    assert await asyncio.gather(pool.submit(seen), pool.submit(seen)) == [True, True]
    pool.close()


async def test_a_call_that_is_cancelled_before_its_turn_is_not_made() -> None:
    pool = ThreadPool("one", 1)
    may_end = threading.Event()
    made: list[int] = []
    first = pool.submit(may_end.wait)
    second = pool.submit(lambda: made.append(2))
    third = pool.submit(lambda: made.append(3))
    second.cancel()
    may_end.set()
    await first
    await third
    assert made == [3]
    pool.close()


async def test_closing_lets_the_call_under_way_end_and_cancels_what_waits() -> None:
    pool = ThreadPool("one", 1)
    begun, may_end = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        may_end.wait(timeout=30)
        return "done"

    under_way, waiting = pool.submit(work), pool.submit(work)
    assert await asyncio.to_thread(begun.wait, 30)
    closing = asyncio.ensure_future(asyncio.to_thread(pool.close))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_end.set()
    await closing
    assert await under_way == "done"
    with pytest.raises(RuntimeError, match="have ended"):
        pool.submit(work)
