"""The certificates that the settings name, and keeping up with them while a process runs."""

from pathlib import Path

from elanus.config.settings import Settings
from elanus.runtime.world import World
from elanus.transport.base import TransportServer
from elanus.transport.tls import CertificateWatch, TlsFiles, TlsMaterial

_CLIENTS_SHOW_ONE_TOO = 2


def public_tls(settings: Settings) -> TlsFiles | None:
    """Of the public port; None for clear text."""
    mode, tls = settings.common.security.tls_mode, settings.tls
    if not mode:
        return None
    authority = Path(tls.ca_pem_path) if mode == _CLIENTS_SHOW_ONE_TOO else None
    return TlsFiles(Path(tls.server_pem_path), Path(tls.server_key_path), authority)


def internal_tls(settings: Settings) -> TlsFiles | None:
    """Of a role towards the other roles, in both directions; None for clear text."""
    if not settings.common.security.internal_tls_enabled:
        return None
    tls = settings.internal_tls
    return TlsFiles(Path(tls.server_pem_path), Path(tls.server_key_path), Path(tls.ca_pem_path))


async def watch_public_certificate(
    world: World, settings: Settings, server: TransportServer
) -> None:
    """Have a server that has started show renewed certificates, as long as the process lives."""
    files = public_tls(settings)
    if files is None:
        return

    async def renew(material: TlsMaterial) -> None:
        await server.renew_certificate()

    material = await world.executor.run("io", files.read)
    CertificateWatch(world, files, material, renew).start()
