"""SeaweedFS: an S3 server that shares no code with MinIO. It enforces create-only puts.

It serialises conditional puts of one key under a lock whose waiters look again after a while, so a
race of 16 on one key takes seconds.
"""

import json
from io import BytesIO
from typing import ClassVar

import urllib3
from minio.error import MinioException, S3Error

from tests.services.packages import PythonProgram
from tests.services.s3 import S3Service

VOLUMES_MAX = 50
VOLUME_MB = 64
PROBE = ("elanus-probe", "kept")


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

    def is_ready(self) -> bool:
        """Buckets are listed before the filer knows where the objects of earlier lives are."""
        try:
            self.client().get_object(*PROBE).close()
        except S3Error as error:
            return error.code in ("NoSuchBucket", "NoSuchKey")
        except (MinioException, urllib3.exceptions.HTTPError):
            return False
        return True

    def initialize(self) -> None:
        client = self.client()
        if not client.bucket_exists(PROBE[0]):
            client.make_bucket(PROBE[0])
        client.put_object(*PROBE, BytesIO(b"-"), 1)

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
