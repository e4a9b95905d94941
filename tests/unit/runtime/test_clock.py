"""What the clock of the machine says of the calling thread."""

import threading

from elanus.runtime.clock import SystemClock


def test_a_thread_is_busy_while_it_works_and_not_while_it_waits() -> None:
    clock = SystemClock()
    told: list[float] = []

    def wait() -> None:
        started_s = clock.busy_s()
        ended.wait()
        told.append(clock.busy_s() - started_s)

    ended = threading.Event()
    waiting = threading.Thread(target=wait)
    waiting.start()
    started_s = clock.busy_s()
    while clock.busy_s() - started_s < 0.1:
        sum(range(1_000))
    ended.set()
    waiting.join()
    assert told[0] < 0.1
