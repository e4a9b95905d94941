"""What is shipped in ``deploy/``, with the addresses of this machine."""

from collections.abc import Iterable

from tests.services.packages import PROJECT

NGINX = PROJECT / "deploy" / "nginx"
FIRST_SHIPPED_PORT = 19_531


def nginx_files(variant: str, ports: Iterable[int], *extra: tuple[str, str]) -> dict[str, str]:
    """The files of ``tests.services.nginx.Nginx`` for proxies at ``ports`` of loopback."""
    text = (NGINX / variant).read_text()
    for old, new in (("listen 19530", "listen 127.0.0.1:{public}"), *extra):
        assert old in text
        text = text.replace(old, new)
    files = {f"elanus.d/{path.name}": path.read_text() for path in (NGINX / "elanus.d").iterdir()}
    # Of the shipped servers only the addresses change.
    shipped = files["elanus.d/servers.conf"]
    for number, port in enumerate(ports, start=FIRST_SHIPPED_PORT):
        assert f"127.0.0.1:{number} " in shipped
        shipped = shipped.replace(f"127.0.0.1:{number} ", f"127.0.0.1:{port} ")
    return {**files, "elanus.d/servers.conf": shipped, "conf.d/elanus.conf": text}
