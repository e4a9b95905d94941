"""Resource groups."""

from typing import Any

from elanus.access.rest.bodies import Body, as_texts
from elanus.access.rest.call import RestCall
from elanus.access.rest.databases import key_values
from elanus.wire.schema import dict_to_pairs, pairs_to_dict


async def create(call: RestCall) -> dict[str, Any]:
    name = call.body.required_text("name")
    config = _config(call.body.part("config"))
    await call.rpc("CreateResourceGroup", resource_group=name, config=config)
    return {"data": {}}


async def alter(call: RestCall) -> dict[str, Any]:
    groups = call.body.part("resource_groups")
    call.body.required_mapping("resource_groups")
    configs = {name: _config(groups.part(name)) for name in groups.values}
    await call.rpc("UpdateResourceGroups", resource_groups=configs)
    return {"data": {}}


async def drop(call: RestCall) -> dict[str, Any]:
    await call.rpc("DropResourceGroup", resource_group=call.body.required_text("name"))
    return {"data": {}}


async def list_all(call: RestCall) -> dict[str, Any]:
    return {"data": list((await call.rpc("ListResourceGroups")).resource_groups)}


async def describe(call: RestCall) -> dict[str, Any]:
    """The group stands at the top level, as Milvus has it."""
    name = call.body.required_text("name")
    group = (await call.rpc("DescribeResourceGroup", resource_group=name)).resource_group
    config = group.config
    labels = key_values(pairs_to_dict(config.node_filter.node_labels))
    return {
        "resource_group": {
            "name": group.name,
            "capacity": group.capacity,
            "num_available_node": group.num_available_node,
            "num_loaded_replica": dict(group.num_loaded_replica),
            "num_outgoing_node": dict(group.num_outgoing_node),
            "num_incoming_node": dict(group.num_incoming_node),
            "config": {
                "requests": {"node_num": config.requests.node_num},
                "limits": {"node_num": config.limits.node_num},
                "transfer_from": _transfers(config.transfer_from),
                "transfer_to": _transfers(config.transfer_to),
                "node_filter": {"node_labels": labels},
            },
            "nodes": [
                {"node_id": node.node_id, "address": node.address, "hostname": node.hostname}
                for node in group.nodes
            ],
        }
    }


async def transfer_replica(call: RestCall) -> dict[str, Any]:
    await call.rpc(
        "TransferReplica",
        source_resource_group=call.body.required_text("sourceRgName"),
        target_resource_group=call.body.required_text("targetRgName"),
        collection_name=call.body.required_text("collectionName"),
        num_replica=call.body.integer("replicaNum", 0),
    )
    return {"data": {}}


def _config(body: Body) -> dict[str, Any]:
    """The configuration as the protocol has it."""
    labels = dict_to_pairs(as_texts(body.part("node_filter").mapping("node_labels")))
    return {
        "requests": {"node_num": body.part("requests").integer("node_num", 0)},
        "limits": {"node_num": body.part("limits").integer("node_num", 0)},
        "transfer_from": _names(body, "transfer_from"),
        "transfer_to": _names(body, "transfer_to"),
        "node_filter": {"node_labels": labels},
    }


def _names(body: Body, key: str) -> list[dict[str, str]]:
    return [{"resource_group": part.required_text("resource_group")} for part in body.parts(key)]


def _transfers(transfers: Any) -> list[dict[str, str]]:
    return [{"resource_group": transfer.resource_group} for transfer in transfers]


ROUTES = {
    "resource_groups/create": create,
    "resource_groups/alter": alter,
    "resource_groups/drop": drop,
    "resource_groups/list": list_all,
    "resource_groups/describe": describe,
    "resource_groups/transfer_replica": transfer_replica,
}
