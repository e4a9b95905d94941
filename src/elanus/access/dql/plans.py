"""Filters compiled once: plans cached by collection, its last change, and text.

Plans with template values are not cached, since their constants differ from request to request.
"""

from dataclasses import replace
from typing import Any

import pyarrow as pa

from elanus.access.meta_cache import CollectionMeta
from elanus.access.proxy import Proxy
from elanus.engine.filter.compile import compile_filter
from elanus.engine.filter.plan import Plan
from elanus.errors import FilterError
from elanus.model.catalog import CollectionInfo
from elanus.model.timestamptz import zone_of
from elanus.wire.templates import decode_templates

MAX_CACHED_TEXT = 4_096
"""Characters; longer filters (lists of thousands of keys) would not pay for their place."""
_SUFFIX = ": invalid parameter"


def compile_plan(
    proxy: Proxy,
    meta: CollectionMeta,
    text: str,
    templates: Any,
    *,
    zone: str = "",
    purpose: str = "query",
) -> Plan | None:
    """The plan of a filter; None for a blank one, which every row passes.

    templates: ``expr_template_values`` of the request. zone: of times without an offset; the
    collection's by default. Raises FilterError that begins with ``failed to create <purpose>
    plan``.
    """
    if not text:
        return None
    collection = meta.info
    zone = zone or collection.timezone
    if templates or len(text) > MAX_CACHED_TEXT:
        plan = _compile(meta, text, decode_templates(templates), zone, purpose)
        return _seeded(proxy, plan)
    key = (collection.collection_id, collection.updated_ts, text, zone, meta.casts)
    cached: Plan | None = proxy.plans.get(key)
    if cached is None:
        cached = _compile(meta, text, {}, zone, purpose)
        if cached is not None:
            proxy.plans.put(key, cached)
    return _seeded(proxy, cached)


def _seeded(proxy: Proxy, plan: Plan | None) -> Plan | None:
    """A plan that samples chooses other rows for each request."""
    if plan is None or plan.sample is None:
        return plan
    return replace(plan, seed=proxy.world.random.getrandbits(63))


def key_plan(collection: CollectionInfo, keys: pa.Array) -> Plan:
    """The plan of ``pk in keys``; int64 or string Arrow array."""
    values = keys.to_numpy() if pa.types.is_integer(keys.type) else keys.to_pylist()
    plan = compile_filter(
        f"{collection.schema.primary.name} in {{keys}}", collection.schema, {"keys": values}
    )
    assert plan is not None
    return plan


def _compile(
    meta: CollectionMeta, text: str, values: dict[str, Any], zone: str, purpose: str
) -> Plan | None:
    try:
        return compile_filter(text, meta.info.schema, values, zone_of(zone), meta.casts)
    except FilterError as error:
        reason = error.message.removesuffix(_SUFFIX)
        raise FilterError(
            f"failed to create {purpose} plan: {reason}", position=error.position
        ) from error
