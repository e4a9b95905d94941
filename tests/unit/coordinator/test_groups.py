"""Which nodes belong to which resource group, for any groups and nodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.coordinator.query.groups import (
    DEFAULT_CONFIG,
    assign,
    check_config,
    check_droppable,
    transferred,
)
from elanus.errors import InvalidParameter, ResourceGroupIllegalConfig
from elanus.model.resource_groups import (
    DEFAULT_RESOURCE_GROUP,
    QueryNodeInfo,
    ResourceGroupConfig,
)

D = DEFAULT_RESOURCE_GROUP
NAMES = ("a", "b", "c")


def config(requests: int, limits: int, **others) -> ResourceGroupConfig:
    return ResourceGroupConfig(requests=requests, limits=limits, **others)


def nodes_of(count: int, **labels: str) -> dict[int, QueryNodeInfo]:
    return {n: QueryNodeInfo(node_id=n, labels=labels) for n in range(1, count + 1)}


@st.composite
def configs_of(draw: st.DrawFn) -> dict[str, ResourceGroupConfig]:
    found = {D: DEFAULT_CONFIG}
    for name in NAMES:
        requests = draw(st.integers(0, 4))
        others = st.lists(st.sampled_from([n for n in (D, *NAMES) if n != name]), unique=True)
        found[name] = config(
            requests,
            requests + draw(st.integers(0, 3)),
            transfer_from=tuple(draw(others)),
            transfer_to=tuple(draw(others)),
        )
    return found


@given(configs_of(), configs_of(), st.integers(0, 12), st.integers(0, 12))
def test_every_node_is_in_one_group_and_none_has_more_than_its_limit(
    before: dict[str, ResourceGroupConfig],
    configs: dict[str, ResourceGroupConfig],
    few: int,
    many: int,
) -> None:
    former = assign(before, {}, nodes_of(few))
    assigned = assign(configs, former, nodes_of(many))
    everybody = [n for held in assigned.values() for n in held]
    assert sorted(everybody) == list(range(1, many + 1))
    assert all(len(held) <= configs[name].limits for name, held in assigned.items())
    missing = [name for name, held in assigned.items() if len(held) < configs[name].requests]
    surplus = [name for name, held in assigned.items() if len(held) > configs[name].requests]
    assert not (missing and surplus), "what one lacks another one has too much of"
    assert assign(configs, assigned, nodes_of(many)) == assigned, "nothing moves for nothing"


def test_new_nodes_go_where_they_are_missing_and_the_others_to_the_default_group() -> None:
    configs = {D: DEFAULT_CONFIG, "a": config(2, 2), "b": config(1, 3)}
    assigned = assign(configs, {}, nodes_of(5))
    assert {name: len(held) for name, held in assigned.items()} == {D: 2, "a": 2, "b": 1}


def test_a_node_that_dies_is_replaced_from_the_named_group_first() -> None:
    configs = {
        D: DEFAULT_CONFIG,
        "a": config(1, 1, transfer_from=("b",)),
        "b": config(0, 4),
    }
    former = {D: [1, 2], "a": [3], "b": [4]}
    nodes = {n: QueryNodeInfo(node_id=n) for n in (1, 2, 4)}
    assert assign(configs, former, nodes) == {D: [1, 2], "a": [4], "b": []}


def test_what_is_too_much_goes_to_the_named_group() -> None:
    configs = {
        D: config(0, 3),
        "a": config(0, 1, transfer_to=("b",)),
        "b": config(0, 3),
    }
    assert assign(configs, {"a": [1, 2, 3]}, nodes_of(3)) == {D: [], "a": [1], "b": [2, 3]}


def test_a_group_takes_only_nodes_with_its_labels_and_gives_the_others_back() -> None:
    nodes = {1: QueryNodeInfo(node_id=1, labels={"zone": "x"}), 2: QueryNodeInfo(node_id=2)}
    configs = {D: DEFAULT_CONFIG, "a": config(2, 2, node_labels={"zone": "x"})}
    assert assign(configs, {}, nodes) == {D: [2], "a": [1]}
    assert assign(configs, {"a": [1, 2]}, nodes) == {D: [2], "a": [1]}


def test_transferred_nodes_change_what_both_groups_ask_for() -> None:
    configs = {D: DEFAULT_CONFIG, "a": config(1, 1)}
    changed = transferred(configs, D, "a", 2)
    assert changed["a"] == config(3, 3)
    assert changed[D] == DEFAULT_CONFIG
    back = transferred({**configs, **changed}, "a", D, 3)
    assert back["a"] == config(0, 0)
    assert back[D].requests == 3


@pytest.mark.parametrize(
    "wrong",
    [
        config(2, 1),
        config(-1, 1),
        config(0, 1, transfer_from=("a",)),
        config(0, 1, transfer_to=("nobody",)),
    ],
)
def test_illegal_configurations_are_refused(wrong: ResourceGroupConfig) -> None:
    with pytest.raises(ResourceGroupIllegalConfig):
        check_config("a", wrong, {D: DEFAULT_CONFIG, "a": config(0, 0)})


def test_a_group_that_others_name_can_not_be_dropped() -> None:
    configs = {D: DEFAULT_CONFIG, "a": config(0, 0), "b": config(1, 1, transfer_from=("a",))}
    with pytest.raises(InvalidParameter, match="is used by b's `TransferFrom`"):
        check_droppable("a", configs)
