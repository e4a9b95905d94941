"""Settings of layer 4: where metadata, objects and the write-ahead log are kept.

Which backend is used is said by ``metastore.type``, ``common.storageType`` and ``mq.type``; the
section of a backend that is not used has no effect.
"""

from typing import Annotated

from msgspec import Meta, field

from elanus.config.section import SECRET, Port, Positive, Section


class MetastoreSettings(Section, frozen=True, kw_only=True):
    type: Annotated[
        str,
        Meta(
            pattern="^(sqlite|etcd)$",
            description="Where metadata is kept: sqlite (a file of the data directory) or etcd.",
        ),
    ] = "sqlite"


class EtcdSslSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Speak TLS with etcd.")] = False
    tls_cert: Annotated[
        str, Meta(description="Client certificate for etcd, a PEM file; empty = none.")
    ] = ""
    tls_key: Annotated[str, Meta(description="Key of tlsCert, a PEM file.")] = ""
    tls_ca_cert: Annotated[
        str,
        Meta(description="Authority that signs etcd's certificate, a PEM file; empty = system's."),
    ] = field(default="", name="tlsCACert")


class EtcdAuthSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Log in to etcd.")] = False
    user_name: Annotated[str, Meta(description="User of etcd.")] = ""
    password: Annotated[str, Meta(description="Password of userName.", extra=SECRET)] = ""


class EtcdSettings(Section, frozen=True, kw_only=True):
    endpoints: Annotated[
        str, Meta(description="Addresses of etcd's members, host:port, separated by commas.")
    ] = "127.0.0.1:2379"
    root_path: Annotated[
        str, Meta(min_length=1, description="Prefix of all keys of this cluster in etcd.")
    ] = "by-dev"
    request_timeout: Annotated[
        Positive, Meta(description="Time limit of a request to etcd, retries included, ms.")
    ] = 10_000
    ssl: EtcdSslSettings = EtcdSslSettings()
    auth: EtcdAuthSettings = EtcdAuthSettings()


class MinioSslSettings(Section, frozen=True, kw_only=True):
    tls_ca_cert: Annotated[
        str,
        Meta(description="Authority that signs the store's certificate, a PEM file."),
    ] = field(default="", name="tlsCACert")


class MinioSettings(Section, frozen=True, kw_only=True):
    """Remote object storage of any provider; the section has the name that Milvus gives it."""

    address: Annotated[
        str,
        Meta(
            description="Host of the object store, or host:port; empty = the provider's own for "
            "the region."
        ),
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of the object store; 0 = the scheme's.")] = 9_000
    access_key_id: Annotated[str, Meta(description="Access key (azure: the account's name).")] = (
        field(default="minioadmin", name="accessKeyID")
    )
    secret_access_key: Annotated[
        str, Meta(description="Secret key (azure: the account's key).", extra=SECRET)
    ] = "minioadmin"
    use_ssl: Annotated[bool, Meta(description="Speak TLS with the object store.")] = field(
        default=False, name="useSSL"
    )
    ssl: MinioSslSettings = MinioSslSettings()
    bucket_name: Annotated[
        str,
        Meta(min_length=1, description="Bucket (azure: container); made if it does not exist."),
    ] = "a-bucket"
    root_path: Annotated[str, Meta(description="Prefix of all keys of this cluster.")] = "files"
    use_iam: Annotated[
        bool,
        Meta(
            description="Take credentials from the environment, a web identity token or the "
            "machine's role, not from accessKeyID and secretAccessKey."
        ),
    ] = field(default=False, name="useIAM")
    cloud_provider: Annotated[
        str,
        Meta(
            pattern="^(aws|gcp|azure)$",
            description="Whose protocol: aws (S3 and compatibles, MinIO), gcp, azure.",
        ),
    ] = "aws"
    gcp_credential_json: Annotated[
        str, Meta(description="Service account of gcp, as JSON.", extra=SECRET)
    ] = field(default="", name="gcpCredentialJSON")
    region: Annotated[str, Meta(description="Region of the bucket; empty = us-east-1.")] = ""
    use_virtual_host: Annotated[
        bool,
        Meta(description="Bucket (azure: account) in the host's name instead of the path."),
    ] = False
    request_timeout_ms: Annotated[
        Positive,
        Meta(description="Time limit of one attempt of a request, ms; 1 s more for each MiB."),
    ] = 10_000
    max_retries: Annotated[
        int, Meta(ge=0, description="Most further attempts of a request that may succeed later.")
    ] = 10
    retry_timeout_ms: Annotated[
        Positive,
        Meta(
            description="Time limit of a request, attempts and pauses included, ms; 1 s more for "
            "each MiB."
        ),
    ] = 60_000
    max_concurrent_requests: Annotated[
        Positive, Meta(description="Most requests in flight from one process; more wait.")
    ] = 64


class LocalCacheSettings(Section, frozen=True, kw_only=True):
    max_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Files of a remote object store that are kept in the data directory, MB; "
            "what was used longest ago goes first.",
        ),
    ] = 10_240


class MqSettings(Section, frozen=True, kw_only=True):
    type: Annotated[
        str,
        Meta(
            pattern="^(local|woodpecker|kafka|pulsar)$",
            description="Write-ahead log: local files, woodpecker (on the object store), kafka, "
            "pulsar.",
        ),
    ] = "local"


class ChanNamePrefixSettings(Section, frozen=True, kw_only=True):
    cluster: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            description="First part of the names of pchannels (logs, topics) of new collections.",
        ),
    ] = "by-dev"


class MsgChannelSettings(Section, frozen=True, kw_only=True):
    chan_name_prefix: ChanNamePrefixSettings = ChanNamePrefixSettings()


class SegmentSyncPolicySettings(Section, frozen=True, kw_only=True):
    max_interval: Annotated[
        int,
        Meta(
            ge=0,
            description="Time that an append may wait for others to share its object, ms: longer "
            "costs latency and saves requests. 0 = only while maxFlushThreads uploads are in "
            "flight.",
        ),
    ] = 0
    max_flush_size: Annotated[
        Positive, Meta(description="Size at which a fragment is uploaded at once, bytes.")
    ] = 2_097_152
    max_flush_threads: Annotated[Positive, Meta(description="Most uploads of a log in flight.")] = 8
    max_bytes: Annotated[
        Positive,
        Meta(description="Most bytes of a log that wait for their upload; more are refused."),
    ] = 268_435_456


class SegmentCompactionPolicySettings(Section, frozen=True, kw_only=True):
    max_size: Annotated[
        Positive, Meta(description="Size of the objects that small fragments are merged to, bytes.")
    ] = 8_388_608
    max_parallel_uploads: Annotated[
        Positive, Meta(description="Most uploads of a merge in flight.")
    ] = 4
    max_parallel_reads: Annotated[
        Positive, Meta(description="Most reads of a merge in flight.")
    ] = 8


class SegmentReadPolicySettings(Section, frozen=True, kw_only=True):
    max_fetch_threads: Annotated[
        Positive, Meta(description="Most objects of a log that a reader fetches ahead.")
    ] = 32


class LogstoreSettings(Section, frozen=True, kw_only=True):
    segment_sync_policy: SegmentSyncPolicySettings = SegmentSyncPolicySettings()
    segment_compaction_policy: SegmentCompactionPolicySettings = SegmentCompactionPolicySettings()
    segment_read_policy: SegmentReadPolicySettings = SegmentReadPolicySettings()


class SegmentRollingPolicySettings(Section, frozen=True, kw_only=True):
    max_size: Annotated[Positive, Meta(description="A log segment ends at this size, bytes.")] = (
        268_435_456
    )
    max_interval: Annotated[
        Positive, Meta(description="... at this age, s, with the next append.")
    ] = 600
    max_blocks: Annotated[Positive, Meta(description="... at this number of fragments.")] = 1_000


class WoodpeckerClientSettings(Section, frozen=True, kw_only=True):
    segment_rolling_policy: SegmentRollingPolicySettings = SegmentRollingPolicySettings()


class WoodpeckerSettings(Section, frozen=True, kw_only=True):
    root_path: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$",
            description="Prefix of the log within the object store.",
        ),
    ] = "wp"
    client: WoodpeckerClientSettings = WoodpeckerClientSettings()
    logstore: LogstoreSettings = LogstoreSettings()


class KafkaSslSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Speak TLS with Kafka.")] = False
    tls_cert: Annotated[str, Meta(description="Client certificate for Kafka, a PEM file.")] = ""
    tls_key: Annotated[str, Meta(description="Key of tlsCert, a PEM file.")] = ""
    tls_ca_cert: Annotated[
        str, Meta(description="Authority that signs Kafka's certificates, a PEM file.")
    ] = field(default="", name="tlsCACert")
    tls_key_password: Annotated[
        str, Meta(description="Password of tlsKey; empty = none.", extra=SECRET)
    ] = ""


class KafkaSettings(Section, frozen=True, kw_only=True):
    broker_list: Annotated[
        str,
        Meta(
            description="Kafka's brokers, host:port, separated by commas. Needs the client: "
            "pip install 'elanus[kafka]'."
        ),
    ] = "127.0.0.1:9092"
    sasl_username: Annotated[str, Meta(description="User for SASL; empty = no SASL.")] = ""
    sasl_password: Annotated[str, Meta(description="Password of saslUsername.", extra=SECRET)] = ""
    sasl_mechanisms: Annotated[
        str, Meta(description="SASL mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512.")
    ] = "PLAIN"
    security_protocol: Annotated[
        str,
        Meta(
            description="plaintext, ssl, sasl_plaintext or sasl_ssl; empty = what ssl.enabled and "
            "saslUsername say."
        ),
    ] = ""
    replication_factor: Annotated[
        int,
        Meta(
            ge=-1,
            description="Copies of a new topic; -1 = the broker's default. How many of them must "
            "have a write before it is acknowledged is the broker's or the topic's "
            "min.insync.replicas.",
        ),
    ] = -1
    request_timeout: Annotated[
        Positive,
        Meta(description="Time limit of a request to Kafka, what is sent again included, ms."),
    ] = 30_000
    ssl: KafkaSslSettings = KafkaSslSettings()


class PulsarSettings(Section, frozen=True, kw_only=True):
    address: Annotated[
        str, Meta(description="Pulsar's service address; pulsar+ssl:// for TLS.")
    ] = "pulsar://127.0.0.1:6650"
    web_address: Annotated[
        str, Meta(description="Address of Pulsar's administration; https:// for TLS.")
    ] = "http://127.0.0.1:8080"
    tenant: Annotated[str, Meta(description="Tenant of the topics.")] = "public"
    namespace: Annotated[str, Meta(description="Namespace of the topics.")] = "default"
    auth_plugin: Annotated[
        str, Meta(description="token, tls or basic; empty = no authentication.")
    ] = ""
    auth_params: Annotated[
        str,
        Meta(
            description="Parameters of authPlugin, key:value pairs separated by commas: token; or "
            "tlsCertFile and tlsKeyFile; or userId and password.",
            extra=SECRET,
        ),
    ] = ""
    tls_ca_cert: Annotated[
        str, Meta(description="Authority that signs Pulsar's certificate, a PEM file.")
    ] = field(default="", name="tlsCACert")
    max_message_size: Annotated[
        int,
        Meta(
            ge=65_536,
            description="Largest message that the broker takes, bytes; larger records are spread "
            "over several.",
        ),
    ] = 5_242_880
    request_timeout: Annotated[
        int, Meta(ge=2_000, description="Time limit of a request to Pulsar, ms.")
    ] = 30_000
