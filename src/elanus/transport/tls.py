"""Certificates: where they lie, what they say now, and noticing that they have been renewed.

Files are read and checked as a whole before anything uses them, so a renewal that is only half
written (a new certificate beside the old key) is left alone until it is complete.
"""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from elanus.errors import Rejected
from elanus.runtime.world import World

log = structlog.get_logger(__name__)

CHECK_S = 10.0
"""Time between two looks at the files of certificates that are in use."""


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What the files say. ``authority`` is None if the other side shows no certificate."""

    certificate: bytes
    key: bytes
    authority: bytes | None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one side: its certificate chain with the key, and the authority that signs the
    certificates of the other side; without that the other side need not show one."""

    certificate: Path
    key: Path
    authority: Path | None = None

    def read(self) -> TlsMaterial:
        """Raises Rejected if a file is missing, or they don't belong together."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key, password=_refuse_password)
            if self.authority is not None:
                context.load_verify_locations(self.authority)
            return TlsMaterial(
                self.certificate.read_bytes(),
                self.key.read_bytes(),
                None if self.authority is None else self.authority.read_bytes(),
            )
        except (OSError, ValueError) as error:  # SSLError is an OSError
            files = [str(path) for path in (self.certificate, self.key, self.authority) if path]
            raise Rejected(f"can't use the certificate of {', '.join(files)}: {error}") from error

    def server_context(self) -> ssl.SSLContext:
        """Of a server of HTTP/2 that shows this certificate; with an authority clients must show
        one that it has signed. Raises Rejected as ``read`` does."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        if self.authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self) -> ssl.SSLContext:
        """Of a client of HTTP/2 that shows this certificate and trusts the authority only. Raises
        Rejected as ``read`` does."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, side: int) -> ssl.SSLContext:
        self.read()
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        if self.authority is not None:
            context.load_verify_locations(self.authority)
        context.set_alpn_protocols(["h2"])
        return context


class CertificateWatch:
    """Calls ``renew`` with what the files say whenever that is new and complete."""

    def __init__(
        self,
        world: World,
        files: TlsFiles,
        material: TlsMaterial,
        renew: Callable[[TlsMaterial], Awaitable[None]],
    ) -> None:
        self._world = world
        self._files = files
        self._material = material
        self._renew = renew

    def start(self) -> None:
        self._world.tasks.spawn("watch certificates", self._watch())

    async def check(self) -> None:
        """Look now."""
        try:
            found = await self._world.executor.run("io", self._files.read)
            if found == self._material:
                return
            await self._renew(found)
        except (Rejected, OSError) as error:
            log.warning("new certificate not used", reason=str(error))
            return
        self._material = found
        log.info("certificate renewed", file=str(self._files.certificate))

    async def _watch(self) -> None:
        while True:
            await self._world.clock.sleep(CHECK_S)
            await self.check()


def _refuse_password() -> str:
    raise ValueError("the key is encrypted")
