"""What a process settles once: its memory allocator, its memory limit, its world."""

import ctypes
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from elanus.config.settings import MemorySettings
from elanus.engine.threads import limit_kernel_threads
from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World

MEMORY_SHARE = 0.8
SWITCH_INTERVAL_S = 0.0001
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MAPPED_BLOCK_BYTES = 4 << 20
_KEPT_BYTES = 16 << 20
_ARENAS = 2


def give_memory_back_early() -> None:
    """Have freed memory go back to the system, all but a little.

    glibc raises its threshold for mapping a block when large blocks are freed and keeps an arena
    for each thread: a server that grows and flushes segments would keep several times what it
    uses. A fixed threshold, few arenas and Arrow's use of the same allocator prevent that. Blocks
    of the size of a batch of rows are not mapped: to get their pages anew for each of its copies
    takes longer than the copies.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_ARENA_MAX, _ARENAS)
    pa.set_memory_pool(pa.system_memory_pool())


def take_turns_quickly() -> None:
    """Have a thread that comes back from a kernel get its turn soon.

    Searches run in threads that need the interpreter only before and after the kernel. With the
    default of 5 ms they wait behind the event loop for longer than they compute: 0.1 ms gave 29 %
    more searches a second at four clients on two cores.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def memory_limit_bytes(settings: MemorySettings) -> int:
    """The limit that is set, else 80 % of what the machine or the container has."""
    if settings.limit_bytes:
        return settings.limit_bytes
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        if path.exists():
            text = path.read_text().strip()
            if text.isdigit():
                total = min(total, int(text))
    return int(total * MEMORY_SHARE)


def real_world(settings: MemorySettings, on_failure: Callable[[str, BaseException], None]) -> World:
    """Clock, randomness, threads and memory of this machine. Call it in the event loop's thread,
    which runs small kernels itself."""
    limit_kernel_threads()
    return World(
        clock=SystemClock(),
        random=random.Random(),
        executor=ThreadExecutor(initializer=limit_kernel_threads),
        tasks=TaskSupervisor(on_failure),
        failpoints=Failpoints(os.environ.get("ELANUS_FAILPOINTS", "")),
        memory=MemoryLedger(memory_limit_bytes(settings)),
    )
