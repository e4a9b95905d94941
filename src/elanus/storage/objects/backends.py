"""From settings to clients of obstore: S3 and compatibles, Azure Blob, Google Cloud Storage.

With ``useIAM`` the client library finds the credentials: environment variables, web identity
tokens, container and instance roles (AWS), client secrets, workload and managed identities (Azure),
application default credentials (Google). Without it only the configured keys are used, whatever the
environment has.

The clients themselves neither retry nor limit time (``retry.py`` does), but for one kind: an upload
in several parts repeats the single part that failed, which only the client can do.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from elanus.config.storage import MinioSettings
from elanus.errors import InvalidParameter, Unavailable

if TYPE_CHECKING:
    from obstore.store import (
        AzureConfig,
        ClientConfig,
        GCSConfig,
        RetryConfig,
        S3Config,
        S3Credential,
    )

RemoteBackend: TypeAlias = S3Store | AzureStore | GCSStore

DEFAULT_REGION = "us-east-1"
# Beyond any limit that retry.py sets; the library's own default of 30 s would cut large bodies.
_NO_LIMIT = timedelta(hours=1)
_CONNECT_LIMIT = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Backends:
    """``single`` for requests that ``retry.py`` repeats, ``parts`` for uploads in parts."""

    single: RemoteBackend
    parts: RemoteBackend
    where: str


def make_backends(settings: MinioSettings) -> Backends:
    """Raises InvalidParameter for settings that can't work. Reaches out to nobody."""
    # With no retries the library's time limit has no effect.
    once: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(0)}
    repeat: RetryConfig = {
        "max_retries": settings.max_retries,
        "retry_timeout": timedelta(milliseconds=settings.retry_timeout_ms),
    }
    attempt = timedelta(milliseconds=settings.request_timeout_ms)
    return Backends(
        single=_make(settings, _client_options(settings, _NO_LIMIT), once),
        parts=_make(settings, _client_options(settings, attempt), repeat),
        where=_where(settings),
    )


def endpoint_of(settings: MinioSettings) -> str:
    """``scheme://host:port``, or nothing if the provider's own address is meant."""
    if not settings.address:
        return ""
    scheme = "https" if settings.use_ssl else "http"
    given = urlsplit(f"//{settings.address}")
    try:
        port = given.port or settings.port
    except ValueError:
        raise InvalidParameter(
            "minio.address", expected="host or host:port", actual=settings.address
        ) from None
    host = f"[{given.hostname}]" if ":" in (given.hostname or "") else given.hostname
    return f"{scheme}://{host}:{port}" if port else f"{scheme}://{host}"


def certificate_of(settings: MinioSettings) -> bytes | None:
    """The configured authority's certificate. Blocks."""
    path = settings.ssl.tls_ca_cert
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Unavailable(f"minio.ssl.tlsCACert {path}: {error.strerror or error}") from error


def _where(settings: MinioSettings) -> str:
    place = "/".join(part for part in (settings.bucket_name, _prefix(settings)) if part)
    return f"{settings.cloud_provider} bucket {place} at {endpoint_of(settings) or 'its provider'}"


def _prefix(settings: MinioSettings) -> str | None:
    return settings.root_path.strip("/") or None


def _client_options(settings: MinioSettings, limit: timedelta) -> "ClientConfig":
    options: ClientConfig = {
        "allow_http": not settings.use_ssl,
        "timeout": limit,
        "connect_timeout": min(limit, _CONNECT_LIMIT),
        "pool_max_idle_per_host": str(settings.max_concurrent_requests),
    }
    certificate = certificate_of(settings)
    if certificate is not None:
        options["root_certificate"] = certificate
    return options


def _make(
    settings: MinioSettings, options: "ClientConfig", retries: "RetryConfig"
) -> RemoteBackend:
    make = {"aws": _make_s3, "azure": _make_azure, "gcp": _make_gcs}[settings.cloud_provider]
    return make(settings, options, retries)


def _require_keys(settings: MinioSettings) -> None:
    if not (settings.access_key_id and settings.secret_access_key):
        raise InvalidParameter(
            "minio.accessKeyID and minio.secretAccessKey",
            expected="both, or minio.useIAM=true",
            actual="empty",
        )


def _make_s3(
    settings: MinioSettings, options: "ClientConfig", retries: "RetryConfig"
) -> RemoteBackend:
    endpoint = endpoint_of(settings)
    config: S3Config = {
        "region": settings.region or DEFAULT_REGION,
        "virtual_hosted_style_request": settings.use_virtual_host,
    }
    if endpoint:
        if settings.use_virtual_host:
            scheme, _, host = endpoint.partition("://")
            endpoint = f"{scheme}://{settings.bucket_name}.{host}"
        # The second is where the environment would win otherwise.
        config |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
    credentials = None
    if not settings.use_iam:
        _require_keys(settings)
        keys: S3Credential = {
            "access_key_id": settings.access_key_id,
            "secret_access_key": settings.secret_access_key,
            "token": None,
            "expires_at": None,
        }

        def credentials() -> "S3Credential":
            return keys

    return S3Store(
        settings.bucket_name,
        prefix=_prefix(settings),
        config=config,
        client_options=options,
        retry_config=retries,
        credential_provider=credentials,
    )


def azure_endpoint(settings: MinioSettings) -> str:
    """The account's address: in the host's name for Azure's own domains or if virtual hosts are
    wanted, else in the path, as emulators have it; empty for the provider's own."""
    endpoint = endpoint_of(settings)
    account = settings.access_key_id
    if not endpoint:
        return ""
    scheme, _, host = endpoint.partition("://")
    if host.startswith(f"{account}."):
        return endpoint
    if settings.use_virtual_host or host.startswith("core."):
        return f"{scheme}://{account}.blob.{host}"
    return f"{endpoint}/{account}"


def _make_azure(
    settings: MinioSettings, options: "ClientConfig", retries: "RetryConfig"
) -> RemoteBackend:
    config: AzureConfig = {"account_name": settings.access_key_id}
    endpoint = azure_endpoint(settings)
    if endpoint:
        config["endpoint"] = endpoint
    if not settings.use_iam:
        _require_keys(settings)
        config["account_key"] = settings.secret_access_key
    return AzureStore(
        settings.bucket_name,
        prefix=_prefix(settings),
        config=config,
        client_options=options,
        retry_config=retries,
    )


def _make_gcs(
    settings: MinioSettings, options: "ClientConfig", retries: "RetryConfig"
) -> RemoteBackend:
    config: GCSConfig = {}
    endpoint = endpoint_of(settings)
    if endpoint:
        config["base_url"] = endpoint
    if settings.gcp_credential_json:
        config["service_account_key"] = settings.gcp_credential_json
    elif not settings.use_iam:
        raise InvalidParameter(
            "minio.gcpCredentialJSON", expected="JSON, or minio.useIAM=true", actual="empty"
        )
    return GCSStore(
        settings.bucket_name,
        prefix=_prefix(settings),
        config=config,
        client_options=options,
        retry_config=retries,
    )
