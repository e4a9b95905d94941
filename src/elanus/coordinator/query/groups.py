"""Which query nodes belong to which resource group: pure functions on configurations.

A node stays in its group as long as that may have it. What a group has beyond its limits goes
where nodes are missing; what it lacks of its requests comes from groups that have more than theirs.
Nodes that no group has a claim on are the default group's.
"""

from collections.abc import Iterable, Mapping

from elanus.errors import InvalidParameter, ResourceGroupIllegalConfig
from elanus.model.resource_groups import (
    DEFAULT_RESOURCE_GROUP,
    UNLIMITED_NODES,
    QueryNodeInfo,
    ResourceGroupConfig,
)

DEFAULT_CONFIG = ResourceGroupConfig(limits=UNLIMITED_NODES)

Configs = Mapping[str, ResourceGroupConfig]
Members = dict[str, list[int]]

_NAMED = 100_000
_URGENT = 1_000_000
"""Factors of a claim: named in a transfer list; beyond the limits, or below what is requested."""


def check_config(name: str, config: ResourceGroupConfig, configs: Configs) -> None:
    """Raises ResourceGroupIllegalConfig. ``configs``: of all groups that there are."""
    if config.requests < 0 or config.limits < 0:
        raise ResourceGroupIllegalConfig(
            name, "requests or limits node num should not less than 0", config
        )
    if config.limits < config.requests:
        raise ResourceGroupIllegalConfig(
            name, "limits node num should not less than requests node num", config
        )
    for which, names in (
        ("TransferFrom", config.transfer_from),
        ("TransferTo", config.transfer_to),
    ):
        for other in names:
            if other == name:
                raise ResourceGroupIllegalConfig(
                    name, f"resource group in `{which}` {other} should not be itself", config
                )
            if other not in configs:
                raise ResourceGroupIllegalConfig(
                    name, f"resource group in `{which}` {other} not exist", config
                )


def check_droppable(name: str, configs: Configs) -> None:
    """Raises InvalidParameter for the default group, one that may have nodes, and one that others
    name."""
    if name == DEFAULT_RESOURCE_GROUP:
        raise InvalidParameter(
            "default resource group is not deletable",
            expected="not default resource group",
            actual=name,
        )
    if configs[name].limits != 0:
        raise InvalidParameter(
            "resource group's limits node num is not 0",
            expected="not empty resource group",
            actual=name,
        )
    for other, config in sorted(configs.items()):
        for which, names in (
            ("TransferFrom", config.transfer_from),
            ("TransferTo", config.transfer_to),
        ):
            if name in names:
                raise InvalidParameter(
                    f"resource group {name} is used by {other}'s `{which}`, "
                    "remove that configuration first",
                    expected=f"not `{which}` of resource group",
                    actual=name,
                )


def transferred(configs: Configs, source: str, target: str, count: int) -> Configs:
    """The two configurations after ``count`` nodes were moved by a user's wish."""
    giving, taking = configs[source], configs[target]
    limits = giving.limits
    if source != DEFAULT_RESOURCE_GROUP:
        limits = max(0, limits - count)
    requests = taking.requests + count
    return {
        source: _with_size(giving, min(max(0, giving.requests - count), limits), limits),
        target: _with_size(taking, requests, max(taking.limits, requests)),
    }


def _with_size(config: ResourceGroupConfig, requests: int, limits: int) -> ResourceGroupConfig:
    return ResourceGroupConfig(
        requests=requests,
        limits=limits,
        transfer_from=config.transfer_from,
        transfer_to=config.transfer_to,
        node_labels=config.node_labels,
    )


def assign(
    configs: Configs, members: Mapping[str, Iterable[int]], nodes: Mapping[int, QueryNodeInfo]
) -> Members:
    """The nodes of every group, by id. ``configs`` has the default group too; ``members`` are the
    groups' nodes until now, those that are gone included."""
    assigned: Members = {name: [] for name in sorted(configs)}
    free = set(nodes)
    for name, held in assigned.items():
        held += [node_id for node_id in members.get(name, ()) if node_id in free]
        free.difference_update(held)
    for node_id in sorted(free):
        _settle(configs, assigned, node_id, nodes[node_id])
    _empty_overfull(configs, assigned, nodes)
    _fill_missing(configs, assigned, nodes)
    return {name: sorted(held) for name, held in assigned.items()}


def _settle(configs: Configs, assigned: Members, node_id: int, node: QueryNodeInfo) -> None:
    """A new node goes where most are missing, else where there is most room."""
    best, best_claim = DEFAULT_RESOURCE_GROUP, 0
    for name, config in configs.items():
        claim = _claim(config, len(assigned[name]))
        if claim > best_claim and _accepts(config, node):
            best, best_claim = name, claim
    assigned[best].append(node_id)


def _claim(config: ResourceGroupConfig, size: int, is_named: bool = False) -> int:
    """How much a group of this size wants another node; 0: not at all."""
    if size < config.requests:
        return (config.requests - size) * _URGENT
    return max(0, config.limits - size) * (_NAMED if is_named else 1)


def _accepts(config: ResourceGroupConfig, node: QueryNodeInfo) -> bool:
    return all(node.labels.get(key) == value for key, value in config.node_labels.items())


def _empty_overfull(
    configs: Configs, assigned: Members, nodes: Mapping[int, QueryNodeInfo]
) -> None:
    """Groups give what is beyond their limits, and nodes that they don't accept any more."""
    for name in sorted(assigned):
        config, held = configs[name], assigned[name]
        if len(held) <= config.limits and not config.node_labels:
            continue
        for node_id in sorted(held, key=lambda n: (_accepts(config, nodes[n]), -n)):
            if len(held) <= config.limits and _accepts(config, nodes[node_id]):
                break
            target, best = "", 0
            for other, theirs in configs.items():
                claim = _claim(theirs, len(assigned[other]), other in config.transfer_to)
                if other != name and claim > best and _accepts(theirs, nodes[node_id]):
                    target, best = other, claim
            if not target and name == DEFAULT_RESOURCE_GROUP:
                break
            held.remove(node_id)
            assigned[target or DEFAULT_RESOURCE_GROUP].append(node_id)


def _fill_missing(configs: Configs, assigned: Members, nodes: Mapping[int, QueryNodeInfo]) -> None:
    """Groups take what they lack of their requests from those that have more than theirs."""
    for held in assigned.values():
        held.sort()
    for name in sorted(assigned):
        config, held = configs[name], assigned[name]
        while len(held) < config.requests:
            source, best = "", 0
            for other, theirs in assigned.items():
                offer = _offer(configs[other], len(theirs), other in config.transfer_from)
                if other != name and offer > best and _newest(config, theirs, nodes) is not None:
                    source, best = other, offer
            chosen = _newest(config, assigned[source], nodes) if source else None
            if chosen is None:
                break
            assigned[source].remove(chosen)
            held.append(chosen)


def _offer(config: ResourceGroupConfig, size: int, is_named: bool) -> int:
    """How gladly a group of this size gives a node; 0: not at all."""
    if size > config.limits:
        return (size - config.limits) * _URGENT
    return max(0, size - config.requests) * (_NAMED if is_named else 1)


def _newest(
    config: ResourceGroupConfig, held: list[int], nodes: Mapping[int, QueryNodeInfo]
) -> int | None:
    """The node that was there last of those that a group with ``config`` accepts."""
    return next((n for n in reversed(held) if _accepts(config, nodes[n])), None)
