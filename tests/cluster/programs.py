"""The programs that a cluster starts by itself, as its PATH should have them."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.services.etcd import Etcd
from tests.services.fixtures import require
from tests.services.minio import MinioServer
from tests.services.nginx import Nginx

PATH_OF_SYSTEM = os.environ["PATH"].split(os.pathsep)
COMMANDS: dict[str, Any] = {
    "etcd": (Etcd, lambda: [str(Etcd.package.program)]),
    "minio": (MinioServer, lambda: [str(MinioServer.package.program)]),
    "nginx": (Nginx, lambda: Nginx.package.command("usr/sbin/nginx")),
}


def path_with(directory: Path, names: Sequence[str]) -> dict[str, str]:
    """A PATH of the servers' programs that has these and none of the others."""
    directory.mkdir()
    for name in names:
        service, command = COMMANDS[name]
        require(service)
        program = directory / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, command()))} "$@"\n')
        program.chmod(0o755)
    others = [
        folder
        for folder in PATH_OF_SYSTEM
        if not any((Path(folder) / name).exists() for name in COMMANDS)
    ]
    return {"PATH": os.pathsep.join([str(directory), *others])}
