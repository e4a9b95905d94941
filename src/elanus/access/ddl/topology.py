"""The roles of this server as the JSON document that Attu draws its system view from."""

import datetime
import os
from typing import Any

from elanus.access.proxy import Proxy
from elanus.version import MILVUS_COMPATIBLE_VERSION, VERSION

COORDINATOR_ID = 2
STREAMING_NODE_ID = 3
DATA_NODE_ID = 4


async def system_info(proxy: Proxy) -> dict[str, Any]:
    """``{"nodes_info": [...]}``: one node for each role of the process."""
    proxy_node = _node(proxy, "proxy", proxy.node_id)
    coordinator = _node(proxy, "mixcoord", COORDINATOR_ID)
    workers = [
        _node(proxy, "streamingnode", STREAMING_NODE_ID),
        _node(proxy, "datanode", DATA_NODE_ID),
    ]
    workers += [_node(proxy, "querynode", node) for node in await proxy.router.query_nodes()]
    proxy_node["connected"] = [_link(coordinator, "forward")]
    coordinator["connected"] = [_link(worker, "manage") for worker in workers]
    return {"nodes_info": [proxy_node, coordinator, *workers]}


def _link(target: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "connected_identifier": target["identifier"],
        "type": kind,
        "target_type": target["infos"]["type"],
    }


def _node(proxy: Proxy, role: str, number: int) -> dict[str, Any]:
    settings = proxy.settings
    memory = proxy.world.memory
    return {
        "identifier": number,
        "connected": [],
        "infos": {
            "has_error": False,
            "error_reason": "",
            "name": f"{role}{number}",
            "hardware_infos": {
                "ip": f"{settings.proxy.host}:{settings.proxy.port}",
                "cpu_core_count": os.cpu_count() or 1,
                "cpu_core_usage": 0.0,
                "memory": memory.limit_bytes,
                "memory_usage": memory.used_bytes,
                "disk": 0.0,
                "disk_usage": 0.0,
                "io_wait_percentage": 0.0,
            },
            "system_info": {
                "system_version": f"elanus-{VERSION}",
                "deploy_mode": "STANDALONE",
                "build_version": MILVUS_COMPATIBLE_VERSION,
                "build_time": "",
                "used_go_version": "",
            },
            "created_time": _as_text(proxy.started_ms),
            "updated_time": _as_text(proxy.world.clock.now_ms()),
            "type": role,
            "id": number,
            "system_configurations": {"simd_type": "auto"},
            "quota_metrics": None,
        },
    }


def _as_text(moment_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(moment_ms / 1000, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")
