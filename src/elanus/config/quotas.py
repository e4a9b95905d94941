"""Settings of rates and quotas. A rate of -1 is no limit; rates are of the whole cluster."""

from typing import Annotated

from msgspec import Meta, field

from elanus.config.section import Fraction, Section

Limit = Annotated[float, Meta(ge=-1)]
UNLIMITED = -1.0


class DatabaseDdlSettings(Section, frozen=True, kw_only=True):
    collection_rate: Annotated[
        Limit, Meta(description="The same of each database, requests/s.")
    ] = UNLIMITED
    partition_rate: Annotated[Limit, Meta(description="The same of each database, requests/s.")] = (
        UNLIMITED
    )


class DdlSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Apply the rates of this section.")] = False
    collection_rate: Annotated[
        Limit,
        Meta(description="Creating, dropping, loading and releasing collections, requests/s."),
    ] = UNLIMITED
    partition_rate: Annotated[
        Limit,
        Meta(description="Creating, dropping, loading and releasing partitions, requests/s."),
    ] = UNLIMITED
    db: DatabaseDdlSettings = DatabaseDdlSettings()


class EachDatabaseSettings(Section, frozen=True, kw_only=True):
    max: Annotated[Limit, Meta(description="Limit of each database, in the same unit.")] = UNLIMITED


class EachCollectionSettings(Section, frozen=True, kw_only=True):
    max: Annotated[
        Limit,
        Meta(
            description="Limit of each collection, in the same unit; the collection's own property "
            "wins."
        ),
    ] = UNLIMITED


class EachPartitionSettings(Section, frozen=True, kw_only=True):
    max: Annotated[Limit, Meta(description="Limit of each partition, in the same unit.")] = (
        UNLIMITED
    )


class IndexRateSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Apply the rates of this section.")] = False
    max: Annotated[Limit, Meta(description="Creating and dropping indexes, requests/s.")] = (
        UNLIMITED
    )
    db: EachDatabaseSettings = EachDatabaseSettings()


class CompactionRateSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Apply the rates of this section.")] = False
    max: Annotated[Limit, Meta(description="Manual compactions, requests/s.")] = UNLIMITED
    db: EachDatabaseSettings = EachDatabaseSettings()


class DatabaseRateSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Apply the rate of this section.")] = False
    max: Annotated[
        Limit, Meta(description="Creating, dropping and altering databases, requests/s.")
    ] = UNLIMITED


class FlushRateSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Apply the rates of this section.")] = True
    max: Annotated[Limit, Meta(description="Flushes, requests/s.")] = UNLIMITED
    db: EachDatabaseSettings = EachDatabaseSettings()
    collection: EachCollectionSettings = EachCollectionSettings(max=0.1)


class InsertRateSettings(Section, frozen=True, kw_only=True):
    max: Annotated[Limit, Meta(description="Inserts, MB/s.")] = UNLIMITED
    db: EachDatabaseSettings = EachDatabaseSettings()
    collection: EachCollectionSettings = EachCollectionSettings()
    partition: EachPartitionSettings = EachPartitionSettings()


class UpsertRateSettings(InsertRateSettings, frozen=True, kw_only=True):
    max: Annotated[Limit, Meta(description="Upserts, MB/s.")] = UNLIMITED


class DeleteRateSettings(InsertRateSettings, frozen=True, kw_only=True):
    max: Annotated[Limit, Meta(description="Deletes, MB/s.")] = UNLIMITED


class DmlSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Apply the rates of this section.")] = False
    insert_rate: InsertRateSettings = InsertRateSettings()
    upsert_rate: UpsertRateSettings = UpsertRateSettings()
    delete_rate: DeleteRateSettings = DeleteRateSettings()


class SearchRateSettings(InsertRateSettings, frozen=True, kw_only=True):
    max: Annotated[Limit, Meta(description="Query vectors of searches, vectors/s.")] = UNLIMITED


class QueryRateSettings(InsertRateSettings, frozen=True, kw_only=True):
    max: Annotated[Limit, Meta(description="Queries, requests/s.")] = UNLIMITED


class DqlSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Apply the rates of this section.")] = False
    search_rate: SearchRateSettings = SearchRateSettings()
    query_rate: QueryRateSettings = QueryRateSettings()


class MemProtectionSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[
        bool,
        Meta(
            description="Slow down writes to what lies on a node that runs short of its accounted "
            "memory, and refuse them at the high water level."
        ),
    ] = True
    data_node_memory_low_water_level: Annotated[
        Fraction,
        Meta(description="From this part of a streaming node's memory on, rates of writes fall."),
    ] = 0.85
    data_node_memory_high_water_level: Annotated[
        Fraction, Meta(description="From this part on, writes are refused.")
    ] = 0.95
    query_node_memory_low_water_level: Annotated[
        Fraction,
        Meta(description="From this part of a query node's memory on, rates of writes fall."),
    ] = 0.85
    query_node_memory_high_water_level: Annotated[
        Fraction, Meta(description="From this part on, writes are refused.")
    ] = 0.95


class DiskProtectionSettings(Section, frozen=True, kw_only=True):
    enabled: Annotated[
        bool, Meta(description="Refuse inserts and upserts where the flushed data has its quota.")
    ] = True
    disk_quota: Annotated[Limit, Meta(description="Flushed data in all, MB; -1 = no limit.")] = (
        UNLIMITED
    )
    disk_quota_per_db: Annotated[
        Limit, Meta(description="Of each database, MB; its own property wins.")
    ] = field(default=UNLIMITED, name="diskQuotaPerDB")
    disk_quota_per_collection: Annotated[
        Limit, Meta(description="Of each collection, MB; its own property wins.")
    ] = UNLIMITED
    disk_quota_per_partition: Annotated[
        Limit, Meta(description="Of each partition, MB; its collection's property wins.")
    ] = UNLIMITED


class LimitWritingSettings(Section, frozen=True, kw_only=True):
    force_deny: Annotated[bool, Meta(description="Refuse all writes.")] = False
    mem_protection: MemProtectionSettings = MemProtectionSettings()
    disk_protection: DiskProtectionSettings = DiskProtectionSettings()


class LimitReadingSettings(Section, frozen=True, kw_only=True):
    force_deny: Annotated[bool, Meta(description="Refuse all searches and queries.")] = False
