"""nginx in front of the proxies of a cluster on one machine, configured as ``deploy/nginx`` shows.

Without nginx the proxies share one port and the system spreads connections over them: a client's
one connection stays at one proxy.
"""

from pathlib import Path
from typing import Any

import elanus
from elanus.errors import InvalidParameter
from elanus.roles.cluster.programs import HOST, Program, Programs, find_program, free_port

TEMPLATES = (
    Path(elanus.__file__).parent / "nginx",
    Path(elanus.__file__).parents[2] / "deploy" / "nginx",
)
"""In an installed package, and in a checkout."""

MAIN = """\
pid {directory}/nginx.pid;
daemon off;
worker_processes 2;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include elanus.conf;
}}
"""
NOBODY = f"server {HOST}:9 down;\n"
SERVER = "server {host}:{port} max_fails=1 fail_timeout=1s;\n"


NAME = "balancer"


def nginx_program(directory: Path, host: str, port: int, given: str = "") -> Program | None:
    """None if there is no nginx. Raises InvalidParameter if what is given isn't one."""
    path = find_program("nginx", given)
    if path is None:
        return None
    templates = next((each for each in TEMPLATES if each.is_dir()), None)
    if templates is None:
        raise InvalidParameter(f"the configuration of nginx is missing: {TEMPLATES[0]}")
    place = directory / "nginx"
    (place / "elanus.d").mkdir(parents=True, exist_ok=True)
    (place / "nginx.conf").write_text(MAIN.format(directory=place))
    text = (templates / "elanus.conf").read_text()
    (place / "elanus.conf").write_text(text.replace("listen 19530", f"listen {host}:{port}"))
    for file in (templates / "elanus.d").iterdir():
        (place / "elanus.d" / file.name).write_text(file.read_text())
    _write_servers(directory, [])
    return Program(NAME, (path, "-e", "stderr", "-c", str(place / "nginx.conf")), port)


class Balancer:
    """Knows the proxies' ports, and tells nginx of those that come and go."""

    def __init__(self, directory: Path, programs: Programs) -> None:
        self._directory = directory
        self._programs = programs
        self._ports: dict[str, int] = {}
        self._hidden: set[str] = set()

    def add(self, name: str) -> dict[str, Any]:
        """The settings of a new proxy."""
        port = self._ports[name] = free_port()
        self._tell()
        return {"proxy.host": HOST, "proxy.port": port, "proxy.reusePort": False}

    def remove(self, name: str) -> None:
        """No new call goes to the proxy, for ever."""
        if self._ports.pop(name, None) is not None:
            self._hidden.discard(name)
            self._tell()

    def hide(self, name: str) -> None:
        """No new call goes to the proxy until it is shown, unless there is no other."""
        if name in self._ports:
            self._hidden.add(name)
            self._tell()

    def show(self, name: str) -> None:
        if name in self._hidden:
            self._hidden.discard(name)
            self._tell()

    def _tell(self) -> None:
        shown = [port for name, port in self._ports.items() if name not in self._hidden]
        _write_servers(self._directory, shown or list(self._ports.values()))
        self._programs.reload(NAME)


def _write_servers(directory: Path, ports: list[int]) -> None:
    lines = "".join(SERVER.format(host=HOST, port=port) for port in ports)
    (directory / "nginx" / "elanus.d" / "servers.conf").write_text(lines or NOBODY)
