"""``python -m tests.services install|start|status|stop [name ...]``."""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.services.background import Background
from tests.services.base import Service, ServiceError
from tests.services.packages import InstallError
from tests.services.registry import INSTALLABLE, SERVICES, named
from tests.services.tools import Tool

INSTALLS_AT_ONCE = 3


def say(line: str) -> None:
    print(line, flush=True)


def in_parallel(kinds: list[Any], act: Callable[[Any], None], workers: int) -> int:
    """Do it for each; what went wrong is said and counted."""
    failures = 0
    with ThreadPoolExecutor(workers) as pool:
        for kind, future in [(kind, pool.submit(act, kind)) for kind in kinds]:
            error = future.exception()
            if isinstance(error, (InstallError, ServiceError)):
                failures += 1
                print(f"{kind.name}: {error}", file=sys.stderr, flush=True)
            elif error is not None:
                raise error
    return failures


def install_one(kind: type[Service] | Tool) -> None:
    if kind.package.installed:
        say(f"{kind.name} {kind.package.version} is there")
        return
    say(f"{kind.name} {kind.package.version}: installing")
    seconds = kind.package.install()
    say(f"{kind.name} {kind.package.version}: installed in {seconds:.0f} s")


def install(kinds: list[type[Service] | Tool]) -> int:
    return in_parallel(kinds, install_one, INSTALLS_AT_ONCE)


def start(kinds: list[type[Service]]) -> int:
    failures = in_parallel(kinds, lambda kind: Background(kind).start(), len(kinds))
    status(kinds)
    return failures


def status(kinds: list[type[Service]]) -> int:
    for kind in kinds:
        background = Background(kind)
        state = "not installed" if not kind.package.installed else "stopped"
        if (pid := background.pid) is not None:
            state = f"process {pid}, {background.service.address}"
        say(f"{kind.name:<12}{kind.package.version:<40}{state}")
    say(f"data and logs: {Background(SERVICES[0]).directory.parent}/<name>")
    return 0


def stop(kinds: list[type[Service]]) -> int:
    return in_parallel(kinds, lambda kind: Background(kind).stop(), len(kinds))


COMMANDS = {"install": install, "start": start, "status": status, "stop": stop}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("name", nargs="*", help="all servers, if none is named")
    arguments = parser.parse_args()
    among = INSTALLABLE if arguments.command == "install" else SERVICES
    return min(COMMANDS[arguments.command](named(arguments.name, among)), 1)


if __name__ == "__main__":
    sys.exit(main())
