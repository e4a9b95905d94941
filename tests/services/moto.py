"""moto's S3: in memory and light, but it does enforce create-only puts. Its data dies with it."""

import sys

from tests.services.packages import PythonProgram
from tests.services.s3 import S3Service


class Moto(S3Service):
    name = "moto"
    package = PythonProgram("moto", "5.2")

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.ports["s3"])]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.package.directory), "MOTO_ALLOW_NONEXISTENT_REGION": "true"}
