"""Making the bucket that the settings name, if the store has none of that name.

The client library can't. For S3 it can sign, however: a signed PUT of the bucket's own address is
CreateBucket, and works with every kind of credentials. Azure's signed addresses can't make a
container, so that request is signed here with the account's key. Where that is not possible
(Google, whose request needs a project; Azure without a key) the error says what to run.
"""

import base64
import hashlib
import hmac
import ssl
import urllib.error
import urllib.request
from datetime import timedelta
from email.utils import formatdate
from urllib.parse import urlsplit

import msgspec
from obstore import sign

from elanus.config.storage import MinioSettings
from elanus.errors import Unavailable
from elanus.storage.objects.backends import (
    DEFAULT_REGION,
    azure_endpoint,
    certificate_of,
    make_backends,
)

_VALID_FOR = timedelta(minutes=5)
_AZURE_VERSION = "2021-08-06"
_CONFLICT = 409
_MAX_ANSWER_BYTES = 4_096
_OURS_ALREADY = ("BucketAlreadyOwnedByYou", "ContainerAlreadyExists")


def create_bucket(settings: MinioSettings) -> None:
    """Make it; that it exists by now is fine. Raises Unavailable with what to do. Blocks."""
    if settings.cloud_provider == "aws":
        request = _s3_request(settings)
    elif settings.cloud_provider == "azure" and not settings.use_iam:
        request = _azure_request(settings, formatdate(usegmt=True))
    else:
        raise Unavailable(f"bucket {settings.bucket_name} does not exist; {_advice(settings)}")
    _send(settings, request)


def _s3_request(settings: MinioSettings) -> urllib.request.Request:
    # Without the prefix of our keys the address is the bucket's.
    bucket = make_backends(msgspec.structs.replace(settings, root_path="")).single
    region = settings.region or DEFAULT_REGION
    body = None
    if region != DEFAULT_REGION:
        body = (
            '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        ).encode()
    return urllib.request.Request(sign(bucket, "PUT", "", _VALID_FOR), data=body, method="PUT")


def _azure_request(settings: MinioSettings, date: str) -> urllib.request.Request:
    account, container = settings.access_key_id, settings.bucket_name
    base = azure_endpoint(settings) or f"https://{account}.blob.core.windows.net"
    path = urlsplit(base).path
    headers = {"Content-Length": "0", "x-ms-date": date, "x-ms-version": _AZURE_VERSION}
    signed = (
        "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{_AZURE_VERSION}\n"
        f"/{account}{path}/{container}\nrestype:container"
    )
    key = base64.b64decode(settings.secret_access_key)
    signature = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha256).digest()).decode()
    headers["Authorization"] = f"SharedKey {account}:{signature}"
    address = f"{base}/{container}?restype=container"
    return urllib.request.Request(address, method="PUT", headers=headers)


def _send(settings: MinioSettings, request: urllib.request.Request) -> None:
    context = None
    if settings.use_ssl or request.type == "https":
        certificate = certificate_of(settings)
        context = ssl.create_default_context()
        if certificate is not None:
            context.load_verify_locations(cadata=certificate.decode())
    timeout_s = settings.request_timeout_ms / 1_000
    what = f"bucket {settings.bucket_name} does not exist and can't be made"
    try:
        with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:
            answer.read(_MAX_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(_MAX_ANSWER_BYTES).decode(errors="replace")
        if error.code == _CONFLICT and any(code in text for code in _OURS_ALREADY):
            return
        # The cause is left out of the chain: its address is signed.
        reason = text.partition("<Code>")[2].partition("<")[0]
        raise Unavailable(
            f"{what}: the store answered {error.code} {reason}; {_advice(settings)}"
        ) from None
    except OSError as error:
        raise Unavailable(f"{what}: {error}; {_advice(settings)}") from None


def _advice(settings: MinioSettings) -> str:
    name = settings.bucket_name
    commands = {
        "aws": f"aws s3 mb s3://{name}",
        "azure": f"az storage container create --name {name} --account-name "
        f"{settings.access_key_id}",
        "gcp": f"gcloud storage buckets create gs://{name}",
    }
    return f"make it with: {commands[settings.cloud_provider]}"
