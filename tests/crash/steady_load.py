"""A steady mixed load through an unmodified client while what the server depends on fails.

Runs with the client's environment: ``steady_load.py <uri> <seed>``. Writers as in ``mixed_load``;
the server lives on, so a write whose answer is an error is settled by reading: it must be there as
a whole or not at all, and stay so. Every acknowledged write may be read back at once, through
another connection. Prints one JSON line with the progress every PROGRESS_S, and the summary when
its input ends. Exits with 1 and says what is wrong if the rows are not what they must be.
"""

import json
import random
import sys
import threading
import time
import traceback

import grpc
from mixed_load import NAME, WRITERS, Writer, create, maintain, verify
from pymilvus import MilvusClient, MilvusException

PROGRESS_S = 0.5
RETRY_S = 0.2
SETTLE_S = 1.0
READ_TIMEOUT_S = 20


def connect(uri):
    while True:
        try:
            return MilvusClient(uri=uri, dedicated=True)
        except MilvusException:
            time.sleep(RETRY_S)


class SteadyWriter(Writer):
    """Settles what failed and goes on. ``last_ack``, ``longest_gap``: seconds, of writes."""

    def __init__(self, number, seed):
        super().__init__(number, seed)
        self.failures = 0
        self.codes = set()
        self.longest_gap = 0.0
        self.last_ack = time.monotonic()

    def work(self, uri, stop):
        client, reader = connect(uri), connect(uri)
        while not stop.is_set():
            before = self.acknowledged
            self.step(client)
            if self.acknowledged > before:
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - self.last_ack)
                self.last_ack = now
                if self.random.random() < 0.1:
                    self.check(self.read(reader, stop))
            elif self.pending:
                self.failures += 1
                self.note(self.error)
                # Whoever took the failed write may live on and be about to do it.
                time.sleep(SETTLE_S)
                self.check(self.read(reader, stop))
            time.sleep(0.005)

    def note(self, error):
        code = getattr(error, "code", None)
        self.codes.add(code if isinstance(code, int) else str(type(error).__name__))

    def read(self, client, stop):
        """Key → version of all its rows; None if there is no answer until the end."""
        expression = f"id >= {self.keys.start} and id < {self.keys.stop}"
        while True:
            try:
                rows = client.query(
                    NAME,
                    filter=expression,
                    output_fields=["version"],
                    consistency_level="Strong",
                    timeout=READ_TIMEOUT_S,
                    retry_times=0,
                )
                return {row["id"]: row["version"] for row in rows}
            except (MilvusException, grpc.RpcError) as error:
                self.note(error)
                if stop.is_set():
                    return None
                time.sleep(RETRY_S)

    def check(self, found):
        if found is not None:
            self.settle(found)


def daemon(work, *arguments):
    """A thread that doesn't keep the process from ending."""
    return threading.Thread(target=work, args=arguments, daemon=True)


def main():
    uri, seed = sys.argv[1], int(sys.argv[2])
    client = connect(uri)
    create(client)
    writers = [SteadyWriter(number, seed) for number in range(WRITERS)]
    stop, wrong = threading.Event(), []

    def guard(work, *arguments):
        try:
            work(*arguments)
        except Exception:  # noqa: BLE001 - told at the end
            wrong.append(traceback.format_exc())

    threads = [daemon(guard, w.work, uri, stop) for w in writers]
    threads.append(daemon(guard, maintain, connect(uri), stop, seed))
    threads.append(daemon(lambda: (sys.stdin.read(), stop.set())))
    for thread in threads:
        thread.start()
    while not stop.wait(PROGRESS_S) and not wrong:
        report(writers)
    stop.set()
    for thread in threads[:-1]:
        thread.join(timeout=180)
        assert not thread.is_alive(), "a client hangs"
    assert not wrong, wrong[0]
    final = connect(uri)
    for writer in writers:
        if writer.pending:
            writer.check(writer.read(final, threading.Event()))
    verify(final, writers)
    report(writers)


def report(writers):
    codes = {str(code) for writer in writers for code in writer.codes}
    gaps = [max(w.longest_gap, time.monotonic() - w.last_ack) for w in writers]
    summary = {
        "acknowledged": sum(writer.acknowledged for writer in writers),
        "failures": sum(writer.failures for writer in writers),
        "codes": sorted(codes),
        "longest_gap_s": round(max(gaps), 2),
    }
    print(json.dumps(summary), flush=True)
    for writer in writers:
        writer.longest_gap = 0.0


if __name__ == "__main__":
    random.seed(sys.argv[2])
    main()
