"""Resource groups as a client sees them, on a server with one query node or more."""

import uuid
from urllib.parse import urlparse

import pytest
from pymilvus import MilvusException, connections, utility
from pymilvus.client.types import ResourceGroupConfig

from conftest import URI

DEFAULT = "__default_resource_group"


def config(requests, limits, **others):
    return ResourceGroupConfig(
        requests={"node_num": requests}, limits={"node_num": limits}, **others
    )


@pytest.fixture
def group(client):
    """A group that may take one node; it is empty and gone afterwards, whatever is loaded."""
    name = f"rg_{uuid.uuid4().hex[:12]}"
    client.create_resource_group(name, config=config(0, 0))
    yield name
    client.update_resource_groups({name: config(0, 0)})
    for collection in client.list_collections():
        client.release_collection(collection)
    client.drop_resource_group(name)


@pytest.fixture
def nodes(client):
    """Query nodes in all: they are in the default group."""
    return nodes_of(client, DEFAULT)


def nodes_of(client, name):
    return client.describe_resource_group(name).num_available_node


def failure(call, *arguments, **keywords):
    with pytest.raises(MilvusException) as caught:
        call(*arguments, **keywords)
    return caught.value


def test_the_default_group_has_the_nodes_that_nobody_else_has(client, group, nodes):
    assert DEFAULT in client.list_resource_groups()
    assert group in client.list_resource_groups()
    default = client.describe_resource_group(DEFAULT)
    assert (default.name, default.capacity) == (DEFAULT, 1_000_000)
    assert default.num_available_node == len(default.nodes) == nodes >= 1
    assert default.nodes[0].node_id > 0
    assert default.nodes[0].hostname
    assert nodes_of(client, group) == 0


def test_nodes_follow_requests_and_limits(client, group, nodes):
    client.update_resource_groups({group: config(1, 1)})
    described = client.describe_resource_group(group)
    assert (described.capacity, described.num_available_node) == (1, 1)
    assert described.config.requests.node_num == 1
    assert nodes_of(client, DEFAULT) == nodes - 1
    client.update_resource_groups({group: config(0, 0)})
    assert (nodes_of(client, group), nodes_of(client, DEFAULT)) == (0, nodes)


def test_a_node_filter_keeps_other_nodes_out(client, group):
    labels = {"node_labels": [{"key": "disk", "value": "nvme"}]}
    client.update_resource_groups({group: config(1, 1, node_filter=labels)})
    assert nodes_of(client, group) == 0
    kept = client.describe_resource_group(group).config.node_filter.node_labels
    assert [(pair.key, pair.value) for pair in kept] == [("disk", "nvme")]


def test_a_collection_is_served_by_the_group_that_it_is_loaded_in(client, plain, group, rows):
    client.release_collection(plain)
    client.update_resource_groups({group: config(1, 1)})
    client.load_collection(plain, resource_groups=[group], replica_number=1)
    assert len(client.query(plain, filter="n < 5")) == 5
    assert client.search(plain, data=[rows[3]["vector"]], limit=1)[0][0]["id"] == 3
    assert [replica.resource_group for replica in client.describe_replica(plain)] == [group]
    assert client.describe_resource_group(group).num_loaded_replica[plain] == 1
    refused = failure(client.drop_resource_group, group)
    assert refused.code == 1100
    assert "some replicas still loaded in resource group" in refused.message

    client.update_resource_groups({group: config(0, 0)})
    client.transfer_replica(group, DEFAULT, plain, 1)
    assert [replica.resource_group for replica in client.describe_replica(plain)] == [DEFAULT]
    assert len(client.query(plain, filter="n < 5")) == 5
    assert plain not in client.describe_resource_group(group).num_loaded_replica


def test_the_groups_of_a_collection_can_be_a_property(client, plain, group):
    client.release_collection(plain)
    client.update_resource_groups({group: config(1, 1)})
    client.alter_collection_properties(plain, {"collection.resource_groups": group})
    client.load_collection(plain)
    assert [replica.resource_group for replica in client.describe_replica(plain)] == [group]
    client.drop_collection_properties(plain, ["collection.resource_groups"])


def test_nodes_can_be_transferred_by_number(client, group, nodes):
    place = urlparse(URI)
    connections.connect("default", host=place.hostname, port=place.port)
    try:
        utility.transfer_node(DEFAULT, group, 1)
        assert nodes_of(client, group) == 1
        assert client.describe_resource_group(group).config.limits.node_num == 1
        assert failure(utility.transfer_node, DEFAULT, group, nodes).code == 304
        utility.transfer_node(group, DEFAULT, 1)
        assert nodes_of(client, DEFAULT) == nodes
        assert failure(utility.transfer_node, group, group, 1).code == 1100
        assert failure(utility.transfer_node, "nobody", group, 1).code == 300
    finally:
        connections.disconnect("default")


def test_creating_the_same_again_succeeds_and_something_else_does_not(client, group):
    client.create_resource_group(group, config=config(0, 0))
    assert failure(client.create_resource_group, group, config=config(1, 2)).code == 301
    for name in ("", "1rg", "r-g", "r" * 256):
        with pytest.raises(MilvusException):
            client.create_resource_group(name)


def test_errors_have_the_codes_of_milvus(client, group, plain):
    missing = failure(client.describe_resource_group, "nobody")
    assert (missing.code, "resource group not found[rg=nobody]" in missing.message) == (300, True)
    assert failure(client.update_resource_groups, {"nobody": config(0, 0)}).code == 300
    assert failure(client.update_resource_groups, {group: config(2, 1)}).code == 303
    itself = [{"resource_group": group}]
    wrong = config(0, 1, transfer_from=itself)
    assert failure(client.update_resource_groups, {group: wrong}).code == 303
    unknown = config(0, 1, transfer_to=[{"resource_group": "nobody"}])
    assert failure(client.update_resource_groups, {group: unknown}).code == 303
    assert failure(client.drop_resource_group, DEFAULT).code == 1100
    client.drop_resource_group("nobody")
    client.update_resource_groups({group: config(0, 3)})
    refused = failure(client.drop_resource_group, group)
    assert "resource group's limits node num is not 0" in refused.message

    client.release_collection(plain)
    assert failure(client.load_collection, plain, resource_groups=["nobody"]).code == 300
    empty = failure(client.load_collection, plain, resource_groups=[group])
    assert empty.code == 304
    many = failure(
        client.load_collection, plain, replica_number=1, resource_groups=[group, DEFAULT]
    )
    assert "resource group num can only be 0, 1 or same as replica number" in many.message
    assert failure(client.transfer_replica, DEFAULT, group, plain, 1).code == 1100
    assert failure(client.transfer_replica, DEFAULT, "nobody", plain, 1).code == 300
