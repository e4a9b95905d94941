"""Ports for servers that will be killed and started again at the same address.

They come from below the range from which the kernel picks ports of outgoing connections: from
there, a client could be given the port of a server that is down for a moment.
"""

import random
import socket

LOWEST_PORT, HIGHEST_PORT = 20_000, 31_999
TRIES_MAX = 1_000

_random = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port on loopback that nobody listens on and that this process has not given before."""
    for _ in range(TRIES_MAX):
        port = _random.randint(LOWEST_PORT, HIGHEST_PORT)
        if port not in _given and can_bind(port):
            _given.add(port)
            return port
    raise OSError(f"no free port between {LOWEST_PORT} and {HIGHEST_PORT}")


def can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
