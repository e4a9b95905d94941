"""What the S3 servers have in common: credentials, a region, buckets."""

from typing import ClassVar

import urllib3
from minio import Minio
from minio.error import MinioException

from tests.services.base import REQUEST_TIMEOUT_S, Service
from tests.services.certificates import Certificates


class S3Service(Service):
    """A server that speaks S3 with path-style addresses and signature version 4."""

    port_names: ClassVar = ("s3",)
    access_key: ClassVar[str] = "elanus"
    secret_key: ClassVar[str] = "elanus-secret"
    region: ClassVar[str] = "us-east-1"
    certificates: Certificates | None = None

    @property
    def endpoint(self) -> str:
        """``host:port``, as minio.address and minio.port have it."""
        return f"127.0.0.1:{self.ports['s3']}"

    @property
    def address(self) -> str:
        return f"{'https' if self.certificates else 'http'}://{self.endpoint}"

    def is_ready(self) -> bool:
        try:
            self.client().list_buckets()
        except (MinioException, urllib3.exceptions.HTTPError):
            return False
        return True

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket; names have 3 characters or more."""
        self.client().make_bucket(bucket)

    def client(self) -> Minio:
        trust = None if self.certificates is None else str(self.certificates.authority)
        return Minio(
            self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            secure=self.certificates is not None,
            http_client=urllib3.PoolManager(
                ca_certs=trust, retries=False, timeout=REQUEST_TIMEOUT_S
            ),
        )
