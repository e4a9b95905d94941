"""Resource groups: which query nodes serve what."""

from collections.abc import Mapping
from typing import Any

from elanus.access.context import CallContext
from elanus.access.ddl import names
from elanus.access.ddl.lookup import find_collection
from elanus.access.proxy import Proxy
from elanus.errors import CollectionNotFound, InvalidParameter
from elanus.model.resource_groups import (
    DEFAULT_RESOURCE_GROUP,
    UNLIMITED_NODES,
    ResourceGroupConfig,
)
from elanus.wire.protocol import message, milvus
from elanus.wire.schema import dict_to_pairs, pairs_to_dict
from elanus.wire.status import success

_CONFIG = "milvus.proto.rg.ResourceGroupConfig"


async def create_resource_group(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """Without a configuration the group is empty and stays so."""
    name = _name(proxy, request.resource_group)
    await proxy.coordinator.create_resource_group(name, _config(request.config))
    return success()


async def update_resource_groups(proxy: Proxy, request: Any, context: CallContext) -> Any:
    if not request.resource_groups:
        raise InvalidParameter("no resource group is given to be updated")
    configs = {name: _config(config) for name, config in sorted(request.resource_groups.items())}
    await proxy.coordinator.update_resource_groups(configs)
    return success()


async def drop_resource_group(proxy: Proxy, request: Any, context: CallContext) -> Any:
    await proxy.coordinator.drop_resource_group(request.resource_group)
    return success()


async def transfer_node(proxy: Proxy, request: Any, context: CallContext) -> Any:
    await proxy.coordinator.transfer_nodes(
        request.source_resource_group, request.target_resource_group, request.num_node
    )
    return success()


async def transfer_replica(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    await proxy.coordinator.transfer_replicas(
        request.source_resource_group,
        request.target_resource_group,
        info.collection_id,
        request.num_replica,
    )
    return success()


async def list_resource_groups(proxy: Proxy, request: Any, context: CallContext) -> Any:
    groups = await proxy.coordinator.list_resource_groups()
    return milvus.ListResourceGroupsResponse(status=success(), resource_groups=groups)


async def describe_resource_group(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await proxy.coordinator.describe_resource_group(request.resource_group)
    is_default = info.name == DEFAULT_RESOURCE_GROUP
    group = milvus.ResourceGroup(
        name=info.name,
        capacity=UNLIMITED_NODES if is_default else info.config.requests,
        num_available_node=len(info.nodes),
        num_loaded_replica=await _by_name(proxy, info.loaded_replicas),
        num_outgoing_node=await _by_name(proxy, info.outgoing_nodes),
        num_incoming_node=await _by_name(proxy, info.incoming_nodes),
        config=_as_message(info.config),
    )
    for node in info.nodes:
        group.nodes.add(node_id=node.node_id, address=node.address, hostname=node.host)
    return milvus.DescribeResourceGroupResponse(status=success(), resource_group=group)


def _name(proxy: Proxy, name: str) -> str:
    limit = proxy.settings.proxy.max_name_length
    return names.collection_name(name, limit, "resource group name")


def _config(config: Any) -> ResourceGroupConfig:
    return ResourceGroupConfig(
        requests=config.requests.node_num,
        limits=config.limits.node_num,
        transfer_from=tuple(other.resource_group for other in config.transfer_from),
        transfer_to=tuple(other.resource_group for other in config.transfer_to),
        node_labels=pairs_to_dict(config.node_filter.node_labels),
    )


def _as_message(config: ResourceGroupConfig) -> Any:
    made = message(_CONFIG)(
        requests={"node_num": config.requests},
        limits={"node_num": config.limits},
        transfer_from=[{"resource_group": name} for name in config.transfer_from],
        transfer_to=[{"resource_group": name} for name in config.transfer_to],
    )
    made.node_filter.node_labels.extend(dict_to_pairs(config.node_labels))
    return made


async def _by_name(proxy: Proxy, counts: Mapping[int, int]) -> dict[str, int]:
    """Counts by the name of the collection. One that is dropped meanwhile is left out."""
    found = {}
    for collection_id, count in counts.items():
        try:
            info = await proxy.coordinator.describe_collection_by_id(collection_id)
        except CollectionNotFound:
            continue
        found[info.name] = count
    return found


HANDLERS = {
    "CreateResourceGroup": create_resource_group,
    "UpdateResourceGroups": update_resource_groups,
    "DropResourceGroup": drop_resource_group,
    "TransferNode": transfer_node,
    "TransferReplica": transfer_replica,
    "ListResourceGroups": list_resource_groups,
    "DescribeResourceGroup": describe_resource_group,
}
