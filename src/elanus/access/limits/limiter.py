"""Admits or refuses a request before its handler sees it.

Two kinds of refusal: *later* (RateLimited, code 8: clients try again by themselves) and *not until
somebody does something about it* (QuotaExceeded, code 9). What can't be found has no limits: its
handler says what is wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from elanus.access.context import CallContext
from elanus.access.limits.buckets import BucketTable, Limit
from elanus.access.limits.rates import limited, rates_of
from elanus.access.limits.rules import RULES, Rule
from elanus.access.limits.shares import Shares
from elanus.access.meta_cache import CollectionMeta, MetaCache
from elanus.config.settings import QuotaAndLimitsSettings
from elanus.errors import InputError, QuotaExceeded
from elanus.model.catalog import DEFAULT_PARTITION, DatabaseInfo
from elanus.model.quotas import GROWTH, READS, WRITES, Operation, denies, largest_rate, least_rate
from elanus.runtime.clock import Clock
from elanus.services.interfaces import CoordinatorService

DENIED = "access has been disabled by the administrator"
NO_MEMORY = "memory quota exceeded, please allocate more resources"
NO_ROOM = "disk quota exceeded, please allocate more resources"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a request of one method to one collection (or none) is measured by, as long as the
    collection's metadata holds. ``own``: of the collection; memory lowers it to ``least``."""

    is_denied: bool
    limits: tuple[Limit, ...]
    own: Limit | None = None
    least: float = 0.0


class Limiter:
    """``shares`` is where the coordinator's words go."""

    def __init__(
        self,
        clock: Clock,
        settings: QuotaAndLimitsSettings,
        meta: MetaCache,
        coordinator: CoordinatorService,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._meta = meta
        self._coordinator = coordinator
        self._rates = rates_of(settings)
        self._rules = RULES if settings.enabled else {}
        self._denied = frozenset(
            method for method, rule in self._rules.items() if self._is_denied(rule.operation)
        )
        self._buckets = BucketTable()
        self.shares = Shares(clock, settings.quota_center_collect_interval)

    async def admit(self, method: str, request: Any, context: CallContext) -> None:
        """Raises RateLimited or QuotaExceeded."""
        rule = self._rules.get(method)
        if rule is None:
            return
        if method in self._denied:
            raise QuotaExceeded(DENIED)
        limits: list[Limit] = []
        for name in rule.collections(request) or (None,):
            meta = None if name is None else await self._find(name, context)
            plan = await self._plan(method, rule, meta, context)
            if plan.is_denied:
                raise QuotaExceeded(DENIED)
            limits += (limit for limit in plan.limits if limit not in limits)
            if meta is not None:
                if rule.is_write and not self.shares.notice.is_all_well:
                    self._refuse_without_memory_or_room(meta, rule, request)
                limits += self._own_limits(plan, meta, rule, request)
        if limits:
            amount = rule.amount(request)
            self._buckets.take(limits, amount, self.shares.share, self._clock.monotonic_s())

    def denials(self) -> list[tuple[str, str]]:
        """What nobody may do now: (reading, writing or ddl; the reason)."""
        settings = self._settings
        if not settings.enabled:
            return []
        denied = {
            "reading": settings.limit_reading.force_deny,
            "writing": settings.limit_writing.force_deny,
            "ddl": settings.force_deny_all_ddl,
        }
        found = [(kind, DENIED) for kind, is_denied in denied.items() if is_denied]
        if self.shares.notice.is_full:
            found.append(("writing", NO_ROOM))
        return found

    def _is_denied(self, operation: Operation) -> bool:
        if operation in WRITES:
            return self._settings.limit_writing.force_deny
        if operation in READS:
            return self._settings.limit_reading.force_deny
        return self._settings.force_deny_all_ddl

    async def _find(self, name: str, context: CallContext) -> CollectionMeta | None:
        try:
            return await self._meta.meta(context.database, name.strip())
        except InputError:
            return None

    async def _plan(
        self, method: str, rule: Rule, meta: CollectionMeta | None, context: CallContext
    ) -> _Plan:
        if meta is None:
            return self._make_plan(rule, None, await self._database(rule, context))
        plan: _Plan | None = meta.plans.get(method)
        if plan is None:
            plan = meta.plans[method] = self._make_plan(rule, meta, meta.database)
        return plan

    async def _database(self, rule: Rule, context: CallContext) -> DatabaseInfo | None:
        if rule.operation is Operation.DATABASE:
            return None  # the properties of a database don't keep it from being altered
        try:
            return await self._coordinator.describe_database(context.database)
        except InputError:
            return None

    def _make_plan(
        self, rule: Rule, meta: CollectionMeta | None, database: DatabaseInfo | None
    ) -> _Plan:
        operation, rates = rule.operation, self._rates[rule.operation]
        scoped: list[tuple[tuple[str, ...], float | None]] = [(("cluster",), rates.cluster)]
        if database is not None:
            rate = largest_rate(database.properties, "database", operation)
            rate = rates.database if rate is None else limited(rate)
            scoped.append((("database", database.name), rate))
        limits = tuple(
            Limit((operation.value, *scope), rate, not rule.is_write)
            for scope, rate in scoped
            if rate is not None
        )
        is_denied = database is not None and denies(database.properties, operation)
        if meta is None:
            return _Plan(is_denied, limits)
        properties = meta.info.properties
        rate = largest_rate(properties, "collection", operation)
        rate = rates.collection if rate is None else limited(rate)
        own = None
        if rate is not None:
            scope = (operation.value, "collection", meta.info.collection_id)
            own = Limit(scope, rate, not rule.is_write)
        return _Plan(is_denied, limits, own, least_rate(properties, "collection", operation))

    def _refuse_without_memory_or_room(
        self, meta: CollectionMeta, rule: Rule, request: Any
    ) -> None:
        notice = self.shares.notice
        collection_id = meta.info.collection_id
        if notice.write_factors.get(collection_id, 1.0) <= 0:
            raise QuotaExceeded(NO_MEMORY)
        if rule.operation in GROWTH and (
            notice.is_full
            or meta.info.database in notice.full_databases
            or collection_id in notice.full_collections
            or not notice.full_partitions.isdisjoint(_partitions(meta, rule, request))
        ):
            raise QuotaExceeded(NO_ROOM)

    def _own_limits(
        self, plan: _Plan, meta: CollectionMeta, rule: Rule, request: Any
    ) -> Iterator[Limit]:
        """Of the collection and its partitions. When a node of the collection runs short of memory,
        less may be written to it."""
        own = plan.own
        if own is not None:
            factor = 1.0
            if rule.is_write:
                factor = self.shares.notice.write_factors.get(meta.info.collection_id, 1.0)
            if factor < 1:
                own = replace(own, rate=min(own.rate, max(own.rate * factor, plan.least)))
            yield own
        rate = self._rates[rule.operation].partition
        if rate is not None:
            for partition_id in _partitions(meta, rule, request):
                scope = (rule.operation.value, "partition", partition_id)
                yield Limit(scope, rate, not rule.is_write)


def _partitions(meta: CollectionMeta, rule: Rule, request: Any) -> list[int]:
    """Ids of the partitions that a request names; a write that names none, and has no key to
    choose by, goes to the default one."""
    given = rule.partitions(request)
    if not given and rule.operation in GROWTH and meta.info.schema.partition_key is None:
        given = (DEFAULT_PARTITION,)
    found = (meta.info.partition_by_name.get(name.strip()) for name in given)
    return [partition.partition_id for partition in found if partition is not None]
