"""Resource groups: named sets of query nodes, and how many nodes each of them should have."""

import msgspec

DEFAULT_RESOURCE_GROUP = "__default_resource_group"
UNLIMITED_NODES = 1_000_000
"""What the default group takes, and the capacity that is shown of it."""


class ResourceGroupConfig(msgspec.Struct, frozen=True, kw_only=True):
    """requests: nodes that the group should have at least; limits: at most. What is missing comes
    from the groups of ``transfer_from`` first, what is too much goes to those of ``transfer_to``
    first. Only nodes with all of ``node_labels`` are taken."""

    requests: int = 0
    limits: int = 0
    transfer_from: tuple[str, ...] = ()
    transfer_to: tuple[str, ...] = ()
    node_labels: dict[str, str] = {}


class QueryNodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A query node as others see it. ``memory_bytes`` 0 means unknown; a node that is
    ``is_stopping`` serves what it holds and takes nothing."""

    node_id: int
    address: str = ""
    host: str = ""
    memory_bytes: int = 0
    cores: int = 0
    labels: dict[str, str] = {}
    is_stopping: bool = False


class ResourceGroupInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A group now. By collection id: the number of replicas loaded in the group; nodes of other
    groups that still serve such a replica (outgoing); nodes of the group that still serve other
    groups' replicas (incoming)."""

    name: str
    config: ResourceGroupConfig
    nodes: tuple[QueryNodeInfo, ...] = ()
    loaded_replicas: dict[int, int] = {}
    outgoing_nodes: dict[int, int] = {}
    incoming_nodes: dict[int, int] = {}
