"""The rates that the settings name, by operation and scope; no limit is None."""

from collections.abc import Mapping
from dataclasses import dataclass

from elanus.config.quotas import InsertRateSettings
from elanus.config.settings import QuotaAndLimitsSettings
from elanus.model.quotas import Operation


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second: of the whole cluster, of each database, collection and partition."""

    cluster: float | None = None
    database: float | None = None
    collection: float | None = None
    partition: float | None = None


def rates_of(settings: QuotaAndLimitsSettings) -> Mapping[Operation, Rates]:
    ddl, dml, dql = settings.ddl, settings.dml, settings.dql
    index, flush, compaction = settings.index_rate, settings.flush_rate, settings.compaction_rate
    enabled = {
        Operation.DATABASE: (settings.db_rate.enabled, _rates(settings.db_rate.max)),
        Operation.COLLECTION: (
            ddl.enabled,
            _rates(ddl.collection_rate, ddl.db.collection_rate),
        ),
        Operation.PARTITION: (ddl.enabled, _rates(ddl.partition_rate, ddl.db.partition_rate)),
        Operation.INDEX: (index.enabled, _rates(index.max, index.db.max)),
        Operation.FLUSH: (
            flush.enabled,
            _rates(flush.max, flush.db.max, flush.collection.max),
        ),
        Operation.COMPACTION: (compaction.enabled, _rates(compaction.max, compaction.db.max)),
        Operation.INSERT: (dml.enabled, _all_scopes(dml.insert_rate)),
        Operation.UPSERT: (dml.enabled, _all_scopes(dml.upsert_rate)),
        Operation.DELETE: (dml.enabled, _all_scopes(dml.delete_rate)),
        Operation.IMPORT: (False, Rates()),
        Operation.SEARCH: (dql.enabled, _all_scopes(dql.search_rate)),
        Operation.QUERY: (dql.enabled, _all_scopes(dql.query_rate)),
    }
    return {
        operation: rates if is_enabled else Rates()
        for operation, (is_enabled, rates) in enabled.items()
    }


def limited(rate: float | None) -> float | None:
    """A rate as settings and properties give it: below 0 means no limit."""
    return None if rate is None or rate < 0 else rate


def _rates(*rates: float) -> Rates:
    return Rates(*map(limited, rates))


def _all_scopes(rate: InsertRateSettings) -> Rates:
    return _rates(rate.max, rate.db.max, rate.collection.max, rate.partition.max)
