"""MinIO: the S3 server that most people run by themselves. It enforces create-only puts."""

import shutil
from pathlib import Path
from typing import Any

from tests.services.certificates import make_certificates
from tests.services.packages import GoProgram
from tests.services.s3 import S3Service


class MinioServer(S3Service):
    """One drive, no erasure coding; ``tls``: https only."""

    name = "minio"
    package = GoProgram(
        "minio", "v0.0.0-20260212201848-7aac2a2c5b7c", path="github.com/minio/minio"
    )

    def __init__(self, directory: Path, *, tls: bool = False, **options: Any) -> None:
        super().__init__(directory, **options)
        if tls:
            self.certificates = make_certificates(self.directory / "certificates")

    @property
    def _certificate_directory(self) -> Path:
        return self.directory / "minio-certificates"

    def prepare(self) -> None:
        self._certificate_directory.mkdir(exist_ok=True)
        if self.certificates is not None:
            names = {
                self.certificates.server_certificate: "public.crt",
                self.certificates.server_key: "private.key",
            }
            for file, name in names.items():
                shutil.copy(file, self._certificate_directory / name)

    def command(self) -> list[str]:
        folders = [str(self.data_directory), "--certs-dir", str(self._certificate_directory)]
        return [str(self.package.program), "server", *folders, "--address", self.endpoint]

    def environment(self) -> dict[str, str]:
        return {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
