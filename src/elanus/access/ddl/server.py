"""The server itself: connections, version, health, time, topology."""

from typing import Any

import orjson

from elanus.access.context import CallContext
from elanus.access.ddl.topology import system_info
from elanus.access.proxy import Proxy
from elanus.errors import ElanusError, MetricNotFound, Rejected
from elanus.version import MILVUS_COMPATIBLE_VERSION, VERSION
from elanus.wire.protocol import common, milvus
from elanus.wire.status import success

DEPLOY_MODE = "STANDALONE"
HEALTHY = 1  # StateCode
_QUOTA_STATES = {"reading": 4, "writing": 5, "ddl": 6}  # QuotaState: DenyToRead, …


async def connect(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """``build_tags`` is the version of Milvus that clients may take us for: they parse it."""
    await proxy.coordinator.describe_database(context.database)
    return milvus.ConnectResponse(
        status=success(),
        server_info=common.ServerInfo(
            build_tags=MILVUS_COMPATIBLE_VERSION,
            git_commit=f"elanus-{VERSION}",
            deploy_mode=DEPLOY_MODE,
            reserved={"server": "elanus", "server_version": VERSION},
        ),
        identifier=await proxy.coordinator.allocate_timestamps(),
    )


async def get_version(proxy: Proxy, request: Any, context: CallContext) -> Any:
    return milvus.GetVersionResponse(status=success(), version=MILVUS_COMPATIBLE_VERSION)


async def check_health(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """Healthy means that the coordinator answers; else the reasons say why it does not. States of
    quotas are those of the whole cluster."""
    try:
        await proxy.coordinator.list_databases()
    except ElanusError as error:
        return milvus.CheckHealthResponse(
            status=success(), isHealthy=False, reasons=[f"coordinator: {error.message}"]
        )
    denials = proxy.limits.denials()
    return milvus.CheckHealthResponse(
        status=success(),
        isHealthy=True,
        quota_states=[_QUOTA_STATES[kind] for kind, _ in denials],
        reasons=[reason for _, reason in denials],
    )


async def get_component_states(proxy: Proxy, request: Any, context: CallContext) -> Any:
    state = milvus.ComponentInfo(nodeID=proxy.node_id, role="proxy", state_code=HEALTHY)
    return milvus.ComponentStates(status=success(), state=state, subcomponent_states=[state])


async def alloc_timestamp(proxy: Proxy, request: Any, context: CallContext) -> Any:
    timestamp = await proxy.coordinator.allocate_timestamps()
    return milvus.AllocTimestampResponse(status=success(), timestamp=timestamp)


async def get_metrics(proxy: Proxy, request: Any, context: CallContext) -> Any:
    try:
        asked = orjson.loads(request.request)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"the metrics request is not valid JSON: {error}") from error
    metric = asked.get("metric_type") if isinstance(asked, dict) else None
    if metric != "system_info":
        raise MetricNotFound(str(metric))
    info = await system_info(proxy)
    return milvus.GetMetricsResponse(
        status=success(),
        response=orjson.dumps(info).decode(),
        component_name=f"proxy{proxy.node_id}",
    )


HANDLERS = {
    "Connect": connect,
    "GetVersion": get_version,
    "CheckHealth": check_health,
    "GetComponentStates": get_component_states,
    "AllocTimestamp": alloc_timestamp,
    "GetMetrics": get_metrics,
}
