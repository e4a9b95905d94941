"""What a server costs that nobody talks to: limits of the product, read from /proc."""

import os
import time
from pathlib import Path

import pytest
from tests.server import RunningServer

MAX_RESIDENT_BYTES = 250 << 20
MAX_CPU_SHARE = 0.01
SETTLE_S = 2.0
WATCHED_S = 5.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def _processes(root: int) -> list[int]:
    """``root`` and its descendants."""
    found = [root]
    for process in found:
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _cpu_seconds(processes: list[int]) -> float:
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _resident_bytes(processes: list[int]) -> int:
    pages = [int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in processes]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def test_an_idle_server_costs_next_to_nothing(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "data") as server:
        assert server.process is not None
        time.sleep(SETTLE_S)
        processes = _processes(server.process.pid)
        before = _cpu_seconds(processes)
        time.sleep(WATCHED_S)
        share = (_cpu_seconds(processes) - before) / WATCHED_S
        resident = _resident_bytes(processes)
        print(f"idle: {resident / 2**20:.0f} MB resident, {share:.2%} of a core")
        assert resident < MAX_RESIDENT_BYTES
        assert share < MAX_CPU_SHARE
