"""What the proxy refuses: rates by scope, properties, denials, and what the coordinator says."""

from typing import Any, cast

import msgspec
import pytest
from tests.contract.conftest import ManualClock

from elanus.access.context import CallContext
from elanus.access.limits.limiter import Limiter
from elanus.access.limits.shares import MAX_SILENCE
from elanus.access.meta_cache import CollectionMeta
from elanus.config.settings import QuotaAndLimitsSettings
from elanus.errors import (
    CollectionNotFound,
    DatabaseNotFound,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from elanus.model.catalog import CollectionInfo, DatabaseInfo, PartitionInfo
from elanus.model.schema import CollectionSchema
from elanus.model.types import ConsistencyLevel
from elanus.services.messages import QuotaNotice
from elanus.wire.protocol import milvus
from elanus.wire.status import failure

MB = 1 << 20
DENIED = r"quota exceeded\[reason=access has been disabled by the administrator\]"


class Metadata:
    """Databases and collections; stands for the proxy's cache and for the coordinator."""

    def __init__(self) -> None:
        self.databases: dict[str, dict[str, str]] = {"default": {}, "other": {}}
        self.collections: dict[tuple[str, str], tuple[int, dict[str, str]]] = {
            ("default", "books"): (1, {}),
            ("default", "films"): (2, {}),
            ("other", "books"): (3, {}),
        }

    async def describe_database(self, name: str) -> DatabaseInfo:
        if name not in self.databases:
            raise DatabaseNotFound(name)
        properties = self.databases[name]
        return DatabaseInfo(database_id=1, name=name, created_ts=1, properties=properties)

    async def meta(self, database: str, name: str) -> CollectionMeta:
        if (database, name) not in self.collections:
            raise CollectionNotFound(database, name)
        number, properties = self.collections[database, name]
        info = CollectionInfo(
            collection_id=number,
            database=database,
            schema=CollectionSchema(name=name, fields=()),
            vchannels=(),
            partitions=tuple(
                PartitionInfo(partition_id=10 * number + place, name=partition, created_ts=1)
                for place, partition in enumerate(("_default", "old"))
            ),
            consistency_level=ConsistencyLevel.BOUNDED,
            created_ts=1,
            updated_ts=1,
            properties=properties,
        )
        return CollectionMeta(info, (), await self.describe_database(database))


class Proxy:
    """A limiter with its surroundings."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.metadata = Metadata()
        self.limiter = Limiter(
            self.clock,
            msgspec.convert(settings, QuotaAndLimitsSettings),
            cast(Any, self.metadata),
            cast(Any, self.metadata),
        )

    async def send(self, method: str, database: str = "default", **fields: Any) -> None:
        request = getattr(milvus, f"{method}Request")(**fields)
        await self.limiter.admit(method, request, CallContext(method=method, database=database))

    async def admits(self, method: str, database: str = "default", **fields: Any) -> bool:
        try:
            await self.send(method, database, **fields)
        except RateLimited:
            return False
        return True

    async def count(self, method: str, times: int = 10, **fields: Any) -> int:
        return sum([await self.admits(method, **fields) for _ in range(times)])

    async def insert(self, megabytes: float, collection: str = "books", **fields: Any) -> bool:
        # The size of a request is that of its bytes on the wire.
        padding = b"x" * round(megabytes * MB)
        fields["fields_data"] = [{"vectors": {"binary_vector": padding}}]
        return await self.admits("Insert", collection_name=collection, **fields)


async def test_by_default_nothing_but_flushes_has_a_rate() -> None:
    proxy = Proxy()
    assert await proxy.count("Search", collection_name="books", nq=10_000) == 10
    assert await proxy.count("Query", collection_name="books") == 10
    assert await proxy.count("CreateCollection", collection_name="books") == 10
    assert await proxy.insert(50)
    assert await proxy.count("Flush", collection_names=["books"]) == 1
    assert await proxy.count("Flush", collection_names=["films"]) == 1


async def test_a_second_flush_of_a_collection_waits_ten_seconds() -> None:
    proxy = Proxy()
    await proxy.send("Flush", collection_names=["books"])
    with pytest.raises(RateLimited) as caught:
        await proxy.send("Flush", collection_names=["films", "books"])
    status = failure(caught.value)
    assert (status.code, status.error_code, status.retriable) == (8, 49, True)
    assert status.reason == (
        "request is rejected by grpc RateLimiter middleware, please retry later: "
        "rate limit exceeded[rate=0.1]"
    )
    assert await proxy.admits("Flush", collection_names=["films"]), "it was not charged"
    proxy.clock.advance(9.9)
    assert not await proxy.admits("Flush", collection_names=["books"])
    proxy.clock.advance(0.2)
    assert await proxy.admits("Flush", collection_names=["books"])


@pytest.mark.parametrize(
    ("section", "method", "fields"),
    [
        ({"ddl": {"enabled": True, "collectionRate": 3}}, "CreateCollection", {}),
        ({"ddl": {"enabled": True, "collectionRate": 3}}, "LoadCollection", {}),
        ({"ddl": {"enabled": True, "db": {"partitionRate": 3}}}, "CreatePartition", {}),
        ({"indexRate": {"enabled": True, "max": 3}}, "CreateIndex", {}),
        ({"indexRate": {"enabled": True, "db": {"max": 3}}}, "DropIndex", {}),
        ({"compactionRate": {"enabled": True, "max": 3}}, "ManualCompaction", {}),
        ({"dbRate": {"enabled": True, "max": 3}}, "CreateDatabase", {}),
        ({"flushRate": {"max": 3}}, "FlushAll", {}),
        ({"dql": {"enabled": True, "queryRate": {"max": 3}}}, "Query", {}),
        ({"dql": {"enabled": True, "queryRate": {"db": {"max": 3}}}}, "Query", {}),
        ({"dql": {"enabled": True, "queryRate": {"collection": {"max": 3}}}}, "Query", {}),
        ({"dql": {"enabled": True, "searchRate": {"max": 3}}}, "Search", {"nq": 1}),
    ],
)
async def test_a_rate_of_the_settings_holds_once_its_section_is_enabled(
    section: dict[str, Any], method: str, fields: dict[str, Any]
) -> None:
    fields = dict(fields)
    if "collection_name" in getattr(milvus, f"{method}Request").DESCRIPTOR.fields_by_name:
        fields["collection_name"] = "books"
    assert await Proxy(**section).count(method, **fields) == 3
    ((name, values),) = section.items()
    off = {name: {**values, "enabled": False}}
    assert await Proxy(**off).count(method, **fields) == 10
    assert await Proxy(**section, enabled=False).count(method, **fields) == 10


async def test_scopes_count_apart() -> None:
    rates = {"db": {"max": 3}, "collection": {"max": 2}}
    proxy = Proxy(dql={"enabled": True, "queryRate": rates})
    assert await proxy.count("Query", collection_name="books") == 2
    assert await proxy.count("Query", collection_name="films") == 1, "the database has no more"
    assert await proxy.count("Query", collection_name="books", database="other") == 2


async def test_searches_count_their_vectors() -> None:
    proxy = Proxy(dql={"enabled": True, "searchRate": {"max": 100}})
    assert await proxy.count("Search", collection_name="books", nq=25) == 4
    proxy.clock.advance(1)
    subs = [milvus.SearchRequest(nq=50), milvus.SearchRequest(nq=50)]
    assert await proxy.count("HybridSearch", collection_name="books", requests=subs) == 1


async def test_writes_count_their_bytes_and_a_large_one_is_paid_off() -> None:
    proxy = Proxy(dml={"enabled": True, "insertRate": {"max": 2}})
    assert await proxy.insert(10)
    proxy.clock.advance(3.9)
    assert not await proxy.insert(0.5)
    proxy.clock.advance(1)
    assert await proxy.insert(0.5)


async def test_partitions_have_rates_of_their_own() -> None:
    proxy = Proxy(dml={"enabled": True, "insertRate": {"partition": {"max": 1}}})
    assert await proxy.insert(1)
    assert not await proxy.insert(1, partition_name="_default"), "it is where the first one went"
    assert await proxy.insert(1, partition_name="old")
    assert not await proxy.insert(1, partition_name="old")


async def test_properties_override_the_settings() -> None:
    proxy = Proxy(dql={"enabled": True, "queryRate": {"collection": {"max": 1}}})
    proxy.metadata.collections["default", "books"] = (1, {"collection.queryRate.max.qps": "4"})
    proxy.metadata.collections["default", "films"] = (2, {"collection.queryRate.max.qps": "-1"})
    assert await proxy.count("Query", collection_name="books") == 4
    assert await proxy.count("Query", collection_name="films") == 10
    proxy.metadata.databases["other"] = {"database.searchRate.max.vps": "5"}
    assert await proxy.count("Search", collection_name="books", database="other", nq=1) == 5


async def test_properties_hold_without_a_rate_in_the_settings() -> None:
    proxy = Proxy()
    proxy.metadata.collections["default", "books"] = (1, {"collection.insertRate.max.mb": "1"})
    assert await proxy.insert(1)
    assert not await proxy.insert(1)
    assert await proxy.insert(1, "films")


@pytest.mark.parametrize(
    ("settings", "refused", "admitted"),
    [
        ({"limitWriting": {"forceDeny": True}}, ["Insert", "Delete", "Import"], ["Search"]),
        ({"limitReading": {"forceDeny": True}}, ["Search", "HybridSearch", "Query"], ["Insert"]),
        ({"forceDenyAllDDL": True}, ["CreateCollection", "DropIndex", "FlushAll"], ["Insert"]),
    ],
)
async def test_an_administrator_can_deny_by_the_settings(
    settings: dict[str, Any], refused: list[str], admitted: list[str]
) -> None:
    proxy = Proxy(**settings)
    for method in refused:
        with pytest.raises(QuotaExceeded, match=DENIED) as caught:
            await proxy.send(method)
    status = failure(caught.value)
    assert (status.code, status.error_code, status.retriable) == (9, 48, False)
    for method in admitted:
        await proxy.send(method, collection_name="books")


async def test_what_nobody_may_do_is_told() -> None:
    proxy = Proxy(limitReading={"forceDeny": True})
    assert [kind for kind, _ in proxy.limiter.denials()] == ["reading"]
    proxy.limiter.shares.hear(QuotaNotice(is_full=True))
    kind, reason = proxy.limiter.denials()[-1]
    assert kind == "writing"
    assert "disk quota exceeded" in reason
    assert Proxy(enabled=False, forceDenyAllDDL=True).limiter.denials() == []


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("writing", "Insert"),
        ("reading", "Query"),
        ("ddl", "CreateIndex"),
        ("collectionDDL", "CreateCollection"),
        ("partitionDDL", "DropPartition"),
        ("index", "CreateIndex"),
        ("flush", "FlushAll"),
        ("compaction", "ManualCompaction"),
    ],
)
async def test_an_administrator_can_deny_in_one_database(kind: str, method: str) -> None:
    proxy = Proxy()
    proxy.metadata.databases["other"] = {f"database.force.deny.{kind}": "true"}
    fields = {}
    if "collection_name" in getattr(milvus, f"{method}Request").DESCRIPTOR.fields_by_name:
        fields["collection_name"] = "books"
    await proxy.send(method, **fields)
    with pytest.raises(QuotaExceeded, match=DENIED):
        await proxy.send(method, "other", **fields)
    await proxy.send("AlterDatabase", "other")


async def test_what_is_not_there_is_left_to_its_handler() -> None:
    proxy = Proxy(dql={"enabled": True, "queryRate": {"collection": {"max": 0}}})
    await proxy.send("Query", collection_name="nothing")
    await proxy.send("Query", collection_name="")
    await proxy.send("Query", "nowhere", collection_name="books")


async def test_a_coordinator_that_cannot_be_asked_is_not_asked_twice() -> None:
    proxy = Proxy()

    async def fail(*_: str) -> Any:
        raise Unavailable("no coordinator leads now, try again")

    proxy.metadata.meta = fail  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await proxy.send("Query", collection_name="books")


# --- what the coordinator says ------------------------------------------------------------------


async def test_proxies_share_a_rate() -> None:
    proxy = Proxy(dql={"enabled": True, "queryRate": {"max": 8}})
    proxy.limiter.shares.hear(QuotaNotice(proxies=4))
    assert await proxy.count("Query", collection_name="books") == 2
    proxy.limiter.shares.hear(QuotaNotice(proxies=1))
    proxy.clock.advance(1)
    assert await proxy.count("Query", collection_name="books") == 8


async def test_a_proxy_that_hears_nothing_counts_for_itself() -> None:
    proxy = Proxy(dql={"enabled": True, "queryRate": {"max": 8}}, quotaCenterCollectInterval=3)
    shares = proxy.limiter.shares
    shares.visible_proxies = lambda: 4
    assert shares.share == 1 / 4, "before the first word"
    shares.hear(QuotaNotice(proxies=2))
    assert shares.share == 1 / 2
    proxy.clock.advance(3 * MAX_SILENCE + 0.1)
    assert shares.share == 1 / 4, "it sees more than it was told of"
    shares.visible_proxies = lambda: 1
    assert shares.share == 1 / 2, "silence makes nothing looser"


async def test_writes_are_slowed_and_then_refused_for_want_of_memory() -> None:
    proxy = Proxy(dml={"enabled": True, "insertRate": {"collection": {"max": 4}}})
    proxy.limiter.shares.hear(QuotaNotice(write_factors={1: 0.25}))
    assert await proxy.insert(1)
    assert not await proxy.insert(1)
    assert await proxy.insert(1, "films")
    assert await proxy.insert(1, "films")
    proxy.limiter.shares.hear(QuotaNotice(write_factors={1: 0.0}))
    for method in ("Insert", "Upsert", "Delete"):
        with pytest.raises(QuotaExceeded, match=r"reason=memory quota exceeded, please allocate"):
            await proxy.send(method, collection_name="books")
    assert await proxy.admits("Query", collection_name="books")
    proxy.clock.advance(3_600)
    with pytest.raises(QuotaExceeded):
        await proxy.insert(1)


async def test_a_least_rate_is_left() -> None:
    proxy = Proxy()
    limits = {"collection.insertRate.max.mb": "10", "collection.insertRate.min.mb": "3"}
    proxy.metadata.collections["default", "books"] = (1, limits)
    proxy.limiter.shares.hear(QuotaNotice(write_factors={1: 0.1}))
    assert [await proxy.insert(0.9) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    "notice",
    [
        QuotaNotice(is_full=True),
        QuotaNotice(full_databases=frozenset({"default"})),
        QuotaNotice(full_collections=frozenset({1})),
        QuotaNotice(full_partitions=frozenset({10})),
    ],
)
async def test_what_has_used_up_its_disk_takes_no_more_rows(notice: QuotaNotice) -> None:
    proxy = Proxy()
    proxy.limiter.shares.hear(notice)
    for method in ("Insert", "Upsert", "Import"):
        with pytest.raises(QuotaExceeded, match=r"reason=disk quota exceeded, please allocate"):
            await proxy.send(method, collection_name="books")
    await proxy.send("Delete", collection_name="books")
    await proxy.send("Query", collection_name="books")
    if not notice.is_full:
        await proxy.send("Insert", "other", collection_name="books")
    if notice.full_partitions:
        await proxy.send("Insert", collection_name="books", partition_name="old")
