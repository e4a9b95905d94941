"""A stand-in for Google Cloud Storage: its XML interface, which is S3's but for some headers.

No emulator that can be had answers the XML interface's conditional puts, which is what obstore
sends. This translates them for moto, which enforces them. So it shows that a store is configured
and used rightly, and what it makes of a refusal; it can't show how Google's servers behave. Copies
that must not overwrite do overwrite here.
"""

import json
from typing import Any

from tests.services.http_faults import Headers, HttpFaults
from tests.services.moto import Moto

RENAMED = {b"x-goog-copy-source": b"x-amz-copy-source"}
SIGNED = (
    b"authorization",
    b"AWS4-HMAC-SHA256 Credential=elanus/20260101/us-east-1/s3/aws4_request,"
    b" SignedHeaders=host, Signature=moto-does-not-look",
)
DOES_NOT_EXIST = (b"x-goog-if-generation-match", b"0")


class GcsStandIn(HttpFaults):
    """Its buckets are those of the moto behind it; it has the faults of ``HttpFaults`` too."""

    def __init__(self, moto: Moto) -> None:
        super().__init__(moto.address)
        self.make_bucket = moto.make_bucket

    @property
    def service_account_key(self) -> str:
        """What obstore's GCSStore takes as ``service_account_key``: where to go, unsigned."""
        key: dict[str, Any] = {"gcs_base_url": self.address, "disable_oauth": True}
        return json.dumps(key | {"client_email": "", "private_key": "", "private_key_id": ""})

    def _headers(self, headers: Headers) -> Headers:
        translated = [SIGNED]
        for name, value in super()._headers(headers):
            if (name, value) == DOES_NOT_EXIST:
                translated.append((b"if-none-match", b"*"))
            elif name != b"authorization":
                translated.append((RENAMED.get(name, name), value))
        return translated
