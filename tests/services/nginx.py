"""nginx with a configuration of the test's own, in the foreground as one master and its workers."""

import os
import signal
from pathlib import Path
from typing import Any, ClassVar

import httpx

from tests.services.base import REQUEST_TIMEOUT_S, Service
from tests.services.packages import DebianPrograms

_LIBRARIES = ("libc6", "libcrypt1", "libpcre2-8-0", "libssl3t64", "zlib1g")

_MAIN = """\
pid {directory}/nginx.pid;
daemon off;
worker_processes 2;
error_log stderr info;
events {{ worker_connections 4096; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/temporary/body;
    proxy_temp_path {directory}/temporary/proxy;
    fastcgi_temp_path {directory}/temporary/fastcgi;
    uwsgi_temp_path {directory}/temporary/uwsgi;
    scgi_temp_path {directory}/temporary/scgi;
    include conf.d/*.conf;
    server {{
        listen 127.0.0.1:{port};
        return 200 "ready";
    }}
}}
"""


class Nginx(Service):
    """``files``: path below the configuration's folder → content; ``conf.d/*.conf`` is included."""

    name = "nginx"
    package = DebianPrograms("nginx", "trixie", packages=("nginx", *_LIBRARIES))
    port_names: ClassVar = ("public", "ready")

    def __init__(self, directory: Path, *, files: dict[str, str], **options: Any) -> None:
        super().__init__(directory, **options)
        self._files = files

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.ports['public']}"

    def prepare(self) -> None:
        (self.directory / "temporary").mkdir(exist_ok=True)
        main = _MAIN.format(directory=self.directory, port=self.ports["ready"])
        for name, content in {"nginx.conf": main, **self._files}.items():
            path = self.directory / "configuration" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.replace("{public}", str(self.ports["public"])))

    def command(self) -> list[str]:
        main = self.directory / "configuration" / "nginx.conf"
        return [*self.package.command("usr/sbin/nginx"), "-e", "stderr", "-c", str(main)]

    def kill(self) -> None:
        # Without their master the workers would live on, and keep the port.
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        super().kill()

    def is_ready(self) -> bool:
        try:
            with httpx.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
                return client.get(f"http://127.0.0.1:{self.ports['ready']}/").text == "ready"
        except httpx.TransportError:
            return False
