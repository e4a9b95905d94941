"""Which sealed segments a read of some partitions looks at."""

from collections.abc import Mapping, Sequence

import pytest

from elanus.errors import PartitionNotLoaded
from elanus.model.catalog import SegmentInfo
from elanus.model.types import SegmentLevel, SegmentState
from elanus.services.messages import QueryView
from elanus.workers.streaming.choices import MAX_CHOICES, SealedChoices

PARTITIONS = frozenset((10, 11, 12))
SEGMENTS = {1: 10, 2: 10, 3: 11, 4: 12}
"""Their partitions."""


def view(
    placement: Mapping[int, Sequence[int]], partition_ids: frozenset[int] = frozenset()
) -> QueryView:
    return QueryView(
        vchannel="dml_0_1v0",
        version=1,
        sealed=tuple(
            SegmentInfo(
                segment_id=segment_id,
                collection_id=1,
                partition_id=SEGMENTS[segment_id],
                vchannel="dml_0_1v0",
                state=SegmentState.FLUSHED,
                level=SegmentLevel.L1,
                row_count=1,
                min_ts=1,
                max_ts=1,
            )
            for segment_id in placement
        ),
        superseded=frozenset(),
        delta_ts=0,
        placement={segment_id: tuple(nodes) for segment_id, nodes in placement.items()},
        partition_ids=partition_ids,
    )


EVERYWHERE = dict.fromkeys(SEGMENTS, (7,))


@pytest.mark.parametrize(
    ("wanted", "segment_ids"),
    [((), (1, 2, 3, 4)), ((10,), (1, 2)), ((11, 12), (3, 4)), ((10, 11), (1, 2, 3))],
)
def test_a_choice_has_the_segments_of_its_partitions(
    wanted: tuple[int, ...], segment_ids: tuple[int, ...]
) -> None:
    choice = SealedChoices().of(view(EVERYWHERE), PARTITIONS, wanted)
    assert choice.segment_ids == segment_ids
    assert choice.every_id == (1, 2, 3, 4)


def test_segments_of_a_dropped_partition_are_left_out_from_then_on() -> None:
    choices, loaded = SealedChoices(), view(EVERYWHERE)
    assert choices.of(loaded, PARTITIONS, ()).segment_ids == (1, 2, 3, 4)
    left = choices.of(loaded, PARTITIONS - {11}, ())
    assert left.segment_ids == left.every_id == (1, 2, 4)


def test_a_newer_view_is_chosen_from_anew() -> None:
    choices = SealedChoices()
    assert choices.of(view({1: (7,)}), PARTITIONS, (10,)).segment_ids == (1,)
    assert choices.of(view(EVERYWHERE), PARTITIONS, (10,)).segment_ids == (1, 2)


def test_a_partition_that_is_not_loaded_is_refused_each_time() -> None:
    choices, loaded = SealedChoices(), view({1: (7,)}, frozenset((10,)))
    for _ in range(2):
        with pytest.raises(PartitionNotLoaded):
            choices.of(loaded, PARTITIONS, (10, 12))
    assert choices.of(loaded, PARTITIONS, ()).chosen == {10}


def test_the_only_node_has_all_copies_of_what_is_chosen() -> None:
    choices, loaded = SealedChoices(), view({1: (7,), 2: (7,), 3: (7, 8), 4: (8,)})
    nodes = {
        wanted: choices.of(loaded, PARTITIONS, wanted).only_node
        for wanted in ((10,), (11,), (12,), (10, 12), ())
    }
    assert nodes == {(10,): 7, (11,): None, (12,): 8, (10, 12): None, (): None}
    assert choices.of(view({}), PARTITIONS, ()).only_node is None


def test_more_choices_than_are_remembered_are_right() -> None:
    choices = SealedChoices()
    ids = frozenset(range(MAX_CHOICES + 20))
    loaded = view(EVERYWHERE)
    for _ in range(2):
        for partition_id in sorted(ids):
            expected = tuple(each for each, of in SEGMENTS.items() if of == partition_id)
            assert choices.of(loaded, ids, (partition_id,)).segment_ids == expected
