"""SeaweedFS: an S3 server that shares no code with MinIO. It enforces create-only puts.

It serialises conditional puts of one key under a lock whose waiters look again after a while, so a
race of 16 on one key takes seconds.
"""

import json
from typing import ClassVar

from tests.services.packages import PythonProgram
from tests.services.s3 import S3Service

VOLUMES_MAX = 50
VOLUME_MB = 64


class SeaweedFS(S3Service):
    """Master, volume server, filer and S3 gateway in one process."""

    name = "seaweedfs"
    package = PythonProgram("seaweedfs", "4.48")
    port_names: ClassVar = (
        "s3",
        "s3.grpc",
        "master",
        "master.grpc",
        "volume",
        "volume.grpc",
        "filer",
        "filer.grpc",
    )

    def prepare(self) -> None:
        key = {"accessKey": self.access_key, "secretKey": self.secret_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "tests", "credentials": [key], "actions": actions}
        (self.directory / "s3.json").write_text(json.dumps({"identities": [identity]}))

    def command(self) -> list[str]:
        options = {
            "dir": self.data_directory,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "filer": "true",
            "s3": "true",
            "s3.config": self.directory / "s3.json",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.volumeSizeLimitMB": VOLUME_MB,
            "master.telemetry": "false",
            "volume.max": VOLUMES_MAX,
            "volume.preStopSeconds": 0,
        }
        for name, port in self.ports.items():
            part, _, kind = name.partition(".")
            options[f"{part}.port.{kind}" if kind else f"{part}.port"] = port
        words = [f"-{name}={value}" for name, value in options.items()]
        return [str(self.package.directory / "bin/weed"), "-logtostderr", "server", *words]
