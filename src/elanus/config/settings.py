"""Every setting of Elanus, typed, with its default and its documentation.

Sections and keys are named as in milvus.yaml wherever Milvus has the key; in Python they are the
same names in snake case. Each key's documentation is its ``Meta(description=...)``; the command
``elanus config`` and docs/configuration.md are made from it.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from elanus.config.imports import ImportSettings
from elanus.config.quotas import (
    CompactionRateSettings,
    DatabaseRateSettings,
    DdlSettings,
    DmlSettings,
    DqlSettings,
    FlushRateSettings,
    IndexRateSettings,
    LimitReadingSettings,
    LimitWritingSettings,
)
from elanus.config.section import Fraction, Port, Positive, Section
from elanus.config.security import InternalTlsSettings, SecuritySettings, TlsSettings
from elanus.config.storage import (
    EtcdSettings,
    KafkaSettings,
    LocalCacheSettings,
    MetastoreSettings,
    MinioSettings,
    MqSettings,
    MsgChannelSettings,
    PulsarSettings,
    WoodpeckerSettings,
)
from elanus.config.tiered import SegcoreSettings


class HttpSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Serve the RESTful API on the public port.")] = True
    accept_type_allow_int64: Annotated[
        bool, Meta(description="Int64 values in JSON answers are numbers (else strings).")
    ] = True
    request_timeout_ms: Annotated[
        Positive, Meta(description="Time limit of a RESTful request without one of its own, ms.")
    ] = 30_000


class GrpcSettings(Section, frozen=True, kw_only=True):
    server_max_recv_size: Annotated[
        Positive, Meta(description="Largest request that is accepted, bytes.")
    ] = 67_108_864
    server_max_send_size: Annotated[
        Positive, Meta(description="Largest answer that is sent, bytes.")
    ] = 268_435_456


class ProxySettings(Section, frozen=True, kw_only=True):
    host: Annotated[str, Meta(description="Address that the public port listens on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Public port: gRPC and REST.")] = 19530
    transport: Annotated[
        str,
        Meta(
            pattern="^(h2corn|grpcio)$",
            description="Server of the public port: h2corn (gRPC and REST on one port) or grpcio "
            "(REST on restPort).",
        ),
    ] = "h2corn"
    rest_port: Annotated[
        Port, Meta(description="Port of the RESTful API with the grpcio transport; 0 = port + 1.")
    ] = 0
    reuse_port: Annotated[
        bool,
        Meta(description="Let several proxies of one machine share the port; the system spreads."),
    ] = False
    max_name_length: Annotated[Positive, Meta(description="Longest name, bytes.")] = 255
    max_field_num: Annotated[Positive, Meta(description="Most fields of a collection.")] = 64
    max_vector_field_num: Annotated[Positive, Meta(description="Most vector fields.")] = 4
    max_shard_num: Annotated[Positive, Meta(description="Most shards of a collection.")] = 16
    max_dimension: Annotated[Positive, Meta(description="Largest dimension of a vector.")] = 32_768
    max_var_char_length: Annotated[
        Positive, Meta(description="Largest max_length of a VarChar field, bytes.")
    ] = 65_535
    max_task_num: Annotated[
        Positive, Meta(description="Most requests in flight; more are refused.")
    ] = 1_024
    slow_log_span_in_seconds: Annotated[
        float, Meta(ge=0, description="Requests that take longer are logged with their stages, s.")
    ] = 1.0
    http: HttpSettings = HttpSettings()
    grpc: GrpcSettings = GrpcSettings()


class SessionSettings(Section, frozen=True, kw_only=True):
    ttl: Annotated[
        Positive,
        Meta(description="A node of a cluster that isn't heard of for this time is lost, s."),
    ] = 7


class CommonSettings(Section, frozen=True, kw_only=True):
    storage_type: Annotated[
        str,
        Meta(
            pattern="^(local|remote)$",
            description="Where objects are kept: local (the data directory) or remote (section "
            "minio).",
        ),
    ] = "local"
    graceful_time: Annotated[
        int, Meta(ge=0, description="Staleness that the level Bounded allows, ms.")
    ] = 5_000
    session: SessionSettings = SessionSettings()
    security: SecuritySettings = SecuritySettings()
    json_max_length: Annotated[
        Positive, Meta(description="Longest JSON value and dynamic row, bytes.")
    ] = msgspec.field(default=65_536, name="JSONMaxLength")


class LimitsSettings(Section, frozen=True, kw_only=True):
    top_k: Annotated[Positive, Meta(description="Most hits of a query vector.")] = 16_384
    nq: Annotated[Positive, Meta(description="Most query vectors of a search.")] = 16_384
    max_group_size: Annotated[
        Positive, Meta(description="Most hits of a group of a grouping search.")
    ] = 10
    max_query_result_window: Annotated[Positive, Meta(description="Largest offset + limit.")] = (
        16_384
    )
    max_output_size: Annotated[
        Positive, Meta(description="Largest result of a query or search, bytes.")
    ] = 104_857_600
    max_insert_size: Annotated[
        int, Meta(ge=-1, description="Largest insert, bytes; -1 = only the message limit.")
    ] = -1
    max_collection_num: Annotated[Positive, Meta(description="Most collections.")] = 65_536
    max_resource_group_num_of_query_node: Annotated[
        Positive, Meta(description="Most resource groups, the default one included.")
    ] = 1_024


class QuotaAndLimitsSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[
        bool, Meta(description="Apply rates and quotas; off, only ``limits`` holds.")
    ] = True
    quota_center_collect_interval: Annotated[
        float,
        Meta(gt=0, description="Time between two looks at memory and disk by the coordinator, s."),
    ] = 3.0
    force_deny_all_ddl: Annotated[
        bool,
        Meta(description="Refuse to create or drop anything, to load, release, flush and compact."),
    ] = msgspec.field(default=False, name="forceDenyAllDDL")
    limits: LimitsSettings = LimitsSettings()
    ddl: DdlSettings = DdlSettings()
    index_rate: IndexRateSettings = IndexRateSettings()
    flush_rate: FlushRateSettings = FlushRateSettings()
    compaction_rate: CompactionRateSettings = CompactionRateSettings()
    db_rate: DatabaseRateSettings = DatabaseRateSettings()
    dml: DmlSettings = DmlSettings()
    dql: DqlSettings = DqlSettings()
    limit_writing: LimitWritingSettings = LimitWritingSettings()
    limit_reading: LimitReadingSettings = LimitReadingSettings()


class RootCoordSettings(Section, frozen=True, kw_only=True):
    dml_channel_num: Annotated[
        Positive, Meta(description="Number of pchannels (logs of the WAL).")
    ] = 16
    max_partition_num: Annotated[Positive, Meta(description="Most partitions.")] = 1_024
    max_database_num: Annotated[Positive, Meta(description="Most databases.")] = 64


class SegmentSettings(Section, frozen=True, kw_only=True):
    max_size: Annotated[Positive, Meta(description="Size that compaction aims at, MB.")] = 1_024
    seal_proportion: Annotated[
        Fraction,
        Meta(description="A growing segment is sealed at this part of maxSize."),
    ] = 0.25
    max_life: Annotated[
        Positive, Meta(description="A growing segment is sealed at this age, s.")
    ] = 86_400
    max_idle_time: Annotated[
        Positive, Meta(description="A growing segment without inserts is sealed after this, s.")
    ] = 600
    min_size_from_idle_to_sealed: Annotated[
        int, Meta(ge=0, description="... if it has at least this size, MB.")
    ] = 16


class CompactionSettings(Section, frozen=True, kw_only=True):
    enable_auto_compaction: Annotated[bool, Meta(description="Compact in the background.")] = True
    small_proportion: Annotated[
        Fraction, Meta(description="Segments below this part of maxSize are merged.")
    ] = 0.5
    min_segment_to_merge: Annotated[
        Positive, Meta(description="Fewest small segments that are merged on their own account.")
    ] = 3
    deleted_rows_ratio: Annotated[
        Fraction, Meta(description="A segment with this part of its rows deleted is rewritten.")
    ] = 0.2
    delta_files_to_compact: Annotated[
        Positive, Meta(description="Number of L0 segments of a shard that are then applied.")
    ] = 10


class GcSettings(Section, frozen=True, kw_only=True):
    interval: Annotated[Positive, Meta(description="Time between collections, s.")] = 3_600
    drop_tolerance: Annotated[
        int, Meta(ge=0, description="Age at which a dropped segment's files go, s.")
    ] = 10_800
    missing_tolerance: Annotated[
        int, Meta(ge=0, description="Age at which files that nothing names go, s.")
    ] = 86_400


class DataCoordSettings(Section, frozen=True, kw_only=True):
    segment: SegmentSettings = SegmentSettings()
    compaction: CompactionSettings = CompactionSettings()
    gc: GcSettings = GcSettings()
    imports: ImportSettings = msgspec.field(default=ImportSettings(), name="import")
    min_segment_num_rows_to_enable_index: Annotated[
        int, Meta(ge=0, description="Smaller segments are searched exactly, without an index.")
    ] = 1_024


class DataNodeSettings(Section, frozen=True, kw_only=True):
    index_build_threads: Annotated[
        int, Meta(ge=0, description="Threads of an index build; 0 = one per core.")
    ] = 0


class QueryNodeSettings(Section, frozen=True, kw_only=True):
    max_queue_length: Annotated[
        Positive, Meta(description="Most searches that wait; more are refused.")
    ] = 10_240
    filter_cache_size: Annotated[
        int, Meta(ge=0, description="Bytes for cached filter bitmaps.")
    ] = 33_554_432
    max_timestamp_lag: Annotated[
        Positive, Meta(description="A guarantee timestamp further ahead is refused, s.")
    ] = 86_400
    labels: Annotated[
        str,
        Meta(
            pattern="^([^=,]+=[^=,]*(,[^=,]+=[^=,]*)*)?$",
            description="What the node filters of resource groups find this node by: "
            "zone=a,disk=nvme.",
        ),
    ] = ""
    segcore: SegcoreSettings = SegcoreSettings()

    @property
    def label_map(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self.labels.split(",") if pair)
        return {key: value for key, _, value in pairs}


class QueryCoordSettings(Section, frozen=True, kw_only=True):
    balancer: Annotated[
        str,
        Meta(
            pattern="^(ScoreBasedBalancer|RowCountBasedBalancer)$",
            description="What spreads segments over query nodes: ScoreBasedBalancer (bytes, as a "
            "part of each node's memory) or RowCountBasedBalancer (rows).",
        ),
    ] = "ScoreBasedBalancer"
    auto_balance: Annotated[
        bool, Meta(description="Move loaded segments from fuller nodes to emptier ones.")
    ] = True
    balance_interval_seconds: Annotated[
        Positive, Meta(description="Time between looks for nodes that differ, s.")
    ] = 60
    score_unbalance_toleration_factor: Annotated[
        Fraction,
        Meta(description="Difference of two nodes, as a part of the average, that is left alone."),
    ] = 0.05
    overloaded_memory_threshold_percentage: Annotated[
        int,
        Meta(gt=0, le=100, description="Part of its memory that a query node is loaded to, %."),
    ] = 90
    task_execution_cap: Annotated[
        Positive, Meta(description="Segments that are loaded at the same time, all nodes together.")
    ] = 256


class StreamingSettings(Section, frozen=True, kw_only=True):
    max_pending_bytes: Annotated[
        Positive, Meta(description="Writes that may wait for the log, bytes; more are refused.")
    ] = 268_435_456
    growing_memory_ratio: Annotated[
        Fraction, Meta(description="Growing data above this part of the memory limit is sealed.")
    ] = 0.2


class WalSettings(Section, frozen=True, kw_only=True):
    sync: Annotated[
        bool, Meta(description="fsync before a write is acknowledged. Off: a crash can lose data.")
    ] = True
    segment_size: Annotated[
        Positive, Meta(description="A log file is closed at this size, bytes.")
    ] = 67_108_864


class ClusterSettings(Section, frozen=True, kw_only=True):
    host: Annotated[
        str, Meta(description="Address that a role of a cluster listens on for other roles.")
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port for other roles; 0 = any free one.")] = 0
    advertise_host: Annotated[
        str, Meta(description="Host by which other roles reach this one; empty = host.")
    ] = ""
    drain_timeout: Annotated[
        int,
        Meta(ge=0, description="Time that a stopping role may take to hand over what it owns, s."),
    ] = 60
    silence_timeout: Annotated[
        float,
        Meta(
            ge=0,
            description="A worker that the coordinator doesn't hear for this time, while it hears "
            "others of the role, is replaced before its session ends; at least 2.5 s, 0 = never. "
            "The same for all roles.",
        ),
    ] = 2.5


class LocalStorageSettings(Section, frozen=True, kw_only=True):
    path: Annotated[str, Meta(description="Data directory.")] = "./elanus-data"
    shared_path: Annotated[
        str,
        Meta(
            description="Directory for local objects that all roles of a cluster on one machine "
            "share; empty = in the data directory."
        ),
    ] = ""
    cache: LocalCacheSettings = LocalCacheSettings()


class LogSettings(Section, frozen=True, kw_only=True):
    level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="Least level logged.")
    ] = "info"
    format: Annotated[
        str, Meta(pattern="^(text|json)$", description="Form of the log: text or json.")
    ] = "text"


class MetricsSettings(Section, frozen=True, kw_only=True):
    host: Annotated[str, Meta(description="Address of /metrics and /healthz.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of /metrics and /healthz.")] = 9_091
    enabled: Annotated[bool, Meta(description="Serve /metrics and /healthz.")] = True


class MemorySettings(Section, frozen=True, kw_only=True):
    limit_bytes: Annotated[
        int, Meta(ge=0, description="Memory that may be used, bytes; 0 = 80 % of the machine's.")
    ] = 0


class Settings(Section, frozen=True, kw_only=True):
    """All of it. ``elanus.yaml`` has these sections."""

    proxy: ProxySettings = ProxySettings()
    common: CommonSettings = CommonSettings()
    tls: TlsSettings = TlsSettings()
    internal_tls: InternalTlsSettings = msgspec.field(
        default=InternalTlsSettings(), name="internaltls"
    )
    quota_and_limits: QuotaAndLimitsSettings = QuotaAndLimitsSettings()
    root_coord: RootCoordSettings = RootCoordSettings()
    data_coord: DataCoordSettings = DataCoordSettings()
    data_node: DataNodeSettings = DataNodeSettings()
    query_coord: QueryCoordSettings = QueryCoordSettings()
    query_node: QueryNodeSettings = QueryNodeSettings()
    streaming: StreamingSettings = StreamingSettings()
    metastore: MetastoreSettings = MetastoreSettings()
    etcd: EtcdSettings = EtcdSettings()
    minio: MinioSettings = MinioSettings()
    mq: MqSettings = MqSettings()
    msg_channel: MsgChannelSettings = MsgChannelSettings()
    wal: WalSettings = WalSettings()
    woodpecker: WoodpeckerSettings = WoodpeckerSettings()
    kafka: KafkaSettings = KafkaSettings()
    pulsar: PulsarSettings = PulsarSettings()
    cluster: ClusterSettings = ClusterSettings()
    local_storage: LocalStorageSettings = LocalStorageSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    memory: MemorySettings = MemorySettings()
