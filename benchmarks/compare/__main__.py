"""``make bench``: start, load, measure, kill and restart both servers, taking turns.

Prints a table of ratios and writes benchmarks/results/compare.json and compare.svg.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare.data import FILTERS, prepare
from benchmarks.compare.report import write_report
from benchmarks.compare.servers import ROOT, ElanusServer, MilvusServer, Server

CLIENT = ROOT / ".clients" / "2.6" / "bin" / "python"
RESULTS = ROOT / "benchmarks" / "results"
EFS = (32, 64, 96, 128, 192, 256)
RECALL = 0.95
CLIENTS = 4
WARM_UP_SEARCHES = 20  # of each client, see client.py
CLIENT_KINDS = ("", "light_")  # pymilvus, and one that costs next to nothing: see light.py
WHILE_INSERTING = (("", "Bounded"), ("", "Strong"), ("light_", "Bounded"))
IDLE_WAITS = 30
IDLE_SHARE = 0.15  # of one core

Figures = dict[str, float]


class Client:
    """Runs the commands of client.py against one server."""

    def __init__(self, server: Server, data: Path) -> None:
        self._arguments = [f"http://127.0.0.1:{server.port}", str(data)]

    def command(self, name: str, options: dict[str, object]) -> list[str]:
        script = str(Path(__file__).parent / "client.py")
        return [str(CLIENT), "-W", "ignore", script, name, *self._arguments, json.dumps(options)]

    def run(self, name: str, **options: object) -> dict[str, float]:
        process = subprocess.run(
            self.command(name, options), stdout=subprocess.PIPE, check=True, text=True
        )
        return json.loads(process.stdout.splitlines()[-1])

    @contextmanager
    def started(self, name: str, **options: object):
        """Start a command that says ``ready`` and waits for a line before it begins."""
        process = subprocess.Popen(
            self.command(name, options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if line.strip() != "ready":
            raise RuntimeError(f"{name} did not get ready: {line!r}")
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def prepare_server(server: Server, data: Path) -> dict[str, Any]:
    """Start, load and index; what is measured once. Times in s, memory in MB, as the names say."""
    result: dict[str, Any] = {}
    server.remove_data()
    result["start_s"] = server.start()
    time.sleep(5)
    cpu_s = server.cpu_s()
    time.sleep(10)
    result["idle_cpu_percent"] = (server.cpu_s() - cpu_s) * 10
    result["idle_resident_mb"] = idle_mb = server.resident_mb()
    client = Client(server, data)
    say(server, "loading")
    result |= client.run("load")
    say(server, "recall")
    curve = client.run("curve", efs=EFS)
    result["recall_by_ef"] = curve
    ef = next((ef for ef in EFS if curve[str(ef)] >= RECALL), EFS[-1])
    result["ef"] = ef
    result["filtered_recall"] = client.run("filtered", ef=ef, filters=list(FILTERS))
    result["loaded_resident_mb"] = server.resident_mb()
    result["loaded_above_idle_mb"] = server.resident_mb() - idle_mb
    return result


def search_turn(server: Server, client: Client, ef: int, seconds: float) -> Figures:
    result: Figures = client.run("latency", ef=ef, searches=300)
    for kind in CLIENT_KINDS:
        cpu_s = server.cpu_s()
        searches = concurrent_searches(client, kind, ef, seconds)
        warm_up = WARM_UP_SEARCHES * CLIENTS
        spent_ms = (server.cpu_s() - cpu_s) * 1e3
        result[f"{kind}search_qps"] = searches / seconds
        result[f"{kind}cpu_ms_per_query"] = spent_ms / (searches + warm_up)
    return result


def time_first_answer(server: Server, client: Client, ef: int) -> float:
    """Seconds from kill -9 to the first whole answer."""
    options = {"ef": ef, "port": server.port, "uri": f"http://127.0.0.1:{server.port}"}
    with client.started("first_answer", **options) as worker:
        server.kill()
        killed = time.monotonic()
        server.launch()
        go([worker])
        return time.monotonic() - killed


def compare(
    servers: list[Server], data: Path, seconds: float, insert_s: float, turns: int
) -> dict[str, Any]:
    """Every figure of each server, by its name.

    The servers take turns, so that a machine that is slower for a while is so for both; a figure
    is the median of its turns. The other server runs, idle.
    """
    results = {server.name: prepare_server(server, data) for server in servers}
    clients = {server.name: Client(server, data) for server in servers}
    turn_s = seconds / turns

    def take_turns(what: str, measure: Callable[[Server, Client, int, int], Figures]) -> None:
        found: dict[str, list[Figures]] = {server.name: [] for server in servers}
        for turn in range(turns):
            for server in servers:
                wait_idle(servers)
                say(server, f"{what}, turn {turn + 1} of {turns}")
                ef = results[server.name]["ef"]
                found[server.name].append(measure(server, clients[server.name], ef, turn))
        for name, figures in found.items():
            results[name] |= {key: median(f[key] for f in figures) for key in figures[0]}
            results[name][f"turns: {what}"] = figures

    take_turns("latency and throughput", lambda s, c, ef, _: search_turn(s, c, ef, turn_s))
    take_turns("bulk insert", lambda s, c, ef, turn: c.run("bulk", rows=50_000))
    take_turns("Strong search", lambda s, c, ef, turn: c.run("strong", ef=ef, rounds=10))
    for number, (kind, consistency) in enumerate(WHILE_INSERTING):
        take_turns(
            f"{consistency} search while inserting" + (", light clients" if kind else ""),
            lambda s, c, ef, turn, k=kind, level=consistency, n=number: searches_while_inserting(
                c, k, level, ef, insert_s / turns, (20 + 10 * n + turn) * 1_000_000
            ),
        )
    for server in servers:
        say(server, "kill -9")
        seconds_away = time_first_answer(server, clients[server.name], results[server.name]["ef"])
        results[server.name]["kill_to_first_answer_s"] = seconds_away
    return results


def wait_idle(servers: list[Server]) -> None:
    """Until none of them works off what a turn left behind, for a while at most."""
    for _ in range(IDLE_WAITS):
        before = [server.cpu_s() for server in servers]
        time.sleep(1)
        if all(s.cpu_s() - spent < IDLE_SHARE for s, spent in zip(servers, before, strict=True)):
            return


def concurrent_searches(client: Client, kind: str, ef: int, seconds: float) -> float:
    """Searches that CLIENTS processes got answered in ``seconds``."""
    with ExitStack() as stack:
        return sum(answer["searches"] for answer in go(searchers(stack, client, kind, ef, seconds)))


def searches_while_inserting(
    client: Client, kind: str, consistency: str, ef: int, seconds: float, first_id: int
) -> Figures:
    with ExitStack() as stack:
        options = {"rate": 2_000, "seconds": seconds, "first_id": first_id}
        writer = stack.enter_context(client.started(f"{kind}inserting", **options))
        asking = searchers(stack, client, kind, ef, seconds, consistency=consistency)
        inserted, *searched = go([writer, *asking])
    searches = sum(answer["searches"] for answer in searched)
    prefix = f"{kind}{consistency.lower()}_"
    return {
        f"{prefix}search_qps_while_inserting": searches / seconds,
        f"{prefix}inserted_rows_per_s_while_searching": inserted["rows_per_s"],
    }


def searchers(
    stack: ExitStack, client: Client, kind: str, ef: int, seconds: float, **options: object
) -> list[subprocess.Popen[str]]:
    """CLIENTS processes that are about to search for ``seconds``, with other queries each."""
    return [
        stack.enter_context(
            client.started(
                f"{kind}throughput", ef=ef, seconds=seconds, offset=number * 250, **options
            )
        )
        for number in range(CLIENTS)
    ]


def go(workers: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    release(workers)
    return answers_of(workers)


def release(workers: list[subprocess.Popen[str]]) -> None:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()


def answers_of(workers: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    answers = []
    for worker in workers:
        assert worker.stdout is not None
        answers.append(json.loads(worker.stdout.readline()))
    return answers


def say(server: Server, what: str) -> None:
    print(f"{server.name}: {what}", flush=True)


def install_milvus() -> None:
    environment = ROOT / ".clients" / "milvus"
    if not (environment / "bin" / "milvus-server").exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "milvus==2.3.5", "setuptools<81"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each throughput test")
    parser.add_argument(
        "--insert-seconds", type=float, default=50.0, help="of each test with 2,000 inserts/s"
    )
    parser.add_argument("--turns", type=int, default=5, help="that each test is cut into")
    parser.add_argument("--only", choices=["elanus", "milvus"])
    arguments = parser.parse_args()
    data = prepare(arguments.rows)
    work = RESULTS / "work"
    servers: list[Server] = []
    if arguments.only != "elanus":
        install_milvus()
        servers.append(MilvusServer(work / "milvus"))
    if arguments.only != "milvus":
        servers.append(ElanusServer(work / "elanus"))
    try:
        results = compare(
            servers, data, arguments.seconds, arguments.insert_seconds, arguments.turns
        )
    finally:
        for server in servers:
            if server.pid and server.processes():
                server.kill()
            server.remove_data()
    write_report(results, RESULTS)


if __name__ == "__main__":
    main()
