"""Which messages of a Pulsar topic count as records, whatever clients and zombies did to it."""

from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.errors import CorruptData, InternalError
from elanus.storage.wal._pulsar_frames import (
    ENTRY_BITS,
    LEDGER_BITS,
    MAX_RECORDS,
    Body,
    Entry,
    Header,
    encode,
    open_body,
    plan,
)
from elanus.storage.wal._pulsar_replay import Replay
from elanus.storage.wal.base import BEFORE_FIRST

CLUSTER = UUID(int=1).bytes
OTHER_CLUSTER = UUID(int=2).bytes
LIMIT_BYTES = 40
ENTRIES_OF_A_LEDGER = 5


class Topic:
    """Messages in order, in ledgers of a few entries."""

    def __init__(self) -> None:
        self.messages: list[tuple[Entry, bytes]] = []

    def add(self, data: bytes) -> Entry:
        entry = Entry(*divmod(len(self.messages), ENTRIES_OF_A_LEDGER))
        self.messages.append((entry, data))
        return entry

    def records(self, after: int = BEFORE_FIRST) -> list[tuple[int, bytes]]:
        """As a reader sees them that starts at the message of ``after``."""
        replay = Replay("t", CLUSTER)
        first = Entry.of(after) if after != BEFORE_FIRST else Entry(0, 0)
        found = []
        for entry, data in self.messages:
            message = replay.feed(entry, data) if entry >= first else None
            found += [] if message is None else message.found
        return [(one.position, b"".join(one.pieces)) for one in found if one.position > after]


class Sender:
    """A writer that is told which of its messages arrive."""

    def __init__(self, topic: Topic, term: int, known_term: int = 0) -> None:
        self.topic = topic
        self.term = term
        self.number = 0
        self.acknowledged = -1
        self.writer = BEFORE_FIRST
        opened = topic.add(self.message(open_body(known_term, BEFORE_FIRST)))
        self.writer = opened.position()
        self.acknowledged = 0

    def message(self, body: Body) -> bytes:
        header = Header(body.kind, CLUSTER, self.term, self.writer, self.number, self.acknowledged)
        self.number += 1
        return encode(header, body)

    def messages(self, *records: bytes) -> list[bytes]:
        return [self.message(body) for body in plan([[r] for r in records], LIMIT_BYTES)]

    def append(self, *records: bytes) -> None:
        for data in self.messages(*records):
            self.topic.add(data)
        self.acknowledged = self.number - 1


@dataclass(frozen=True)
class Step:
    """An append of records: how much of it was sent again, and whether the writer dies in it."""

    sizes: list[int]
    copies: int
    lost: int
    writer_ends: bool
    zombie_speaks: bool


steps = st.lists(
    st.builds(
        Step,
        st.lists(st.sampled_from([0, 1, 10, 30, 45, 100]), min_size=1, max_size=4),
        copies=st.integers(0, 3),
        lost=st.integers(0, 2),
        writer_ends=st.booleans(),
        zombie_speaks=st.booleans(),
    ),
    max_size=12,
)


@given(steps)
def test_a_reader_sees_what_was_acknowledged_once_and_in_order(steps: list[Step]) -> None:
    topic = Topic()
    sender, zombie = Sender(topic, 1), None
    expected: list[bytes] = []
    for number, step in enumerate(steps):
        records = [b"%03d%03d" % (number, n) + b"x" * size for n, size in enumerate(step.sizes)]
        messages = sender.messages(*records)
        if step.zombie_speaks and zombie is not None:
            zombie.append(b"zombie")
        if step.writer_ends:
            # The last messages never arrive. What did is there up to the last whole record.
            arrived = messages[: max(0, len(messages) - step.lost)]
            for data in arrived:
                topic.add(data)
            whole = topic.records()[len(expected) :]
            assert [payload for _, payload in whole] == records[: len(whole)]
            assert step.lost or len(whole) == len(records)
            expected += records[: len(whole)]
            zombie, sender = sender, Sender(topic, sender.term + number % 2)
            continue
        for data in messages:
            topic.add(data)
        for data in messages[max(0, len(messages) - step.copies) :]:
            topic.add(data)
        sender.acknowledged = sender.number - 1
        expected += records
    found = topic.records()
    assert [payload for _, payload in found] == expected
    positions = [position for position, _ in found]
    assert positions == sorted(set(positions))
    for count, position in enumerate(positions, 1):
        assert topic.records(after=position) == found[count:]


def test_nothing_counts_after_a_message_that_never_arrived() -> None:
    topic = Topic()
    sender = Sender(topic, 1)
    sender.append(b"1")
    lost, late = sender.messages(b"x" * LIMIT_BYTES)[0], sender.messages(b"3")[0]
    topic.add(late)
    assert [payload for _, payload in topic.records()] == [b"1"]
    topic.add(lost)
    Sender(topic, 1).append(b"4")
    assert [payload for _, payload in topic.records()] == [b"1", b"4"]


def test_an_acknowledged_message_that_is_missing_is_damage() -> None:
    topic = Topic()
    sender = Sender(topic, 1)
    sender.append(b"1")
    sender.append(b"2")
    del topic.messages[-1]
    sender.append(b"3")
    with pytest.raises(CorruptData, match="number 2, which was acknowledged, is missing"):
        topic.records()


def test_an_opener_of_a_smaller_term_changes_nothing() -> None:
    topic = Topic()
    newer = Sender(topic, 5)
    newer.append(b"1")
    Sender(topic, 4)
    Sender(topic, 4, known_term=5)
    newer.append(b"2")
    assert [payload for _, payload in topic.records()] == [b"1", b"2"]


def test_the_end_of_a_record_whose_beginning_was_deleted_is_passed_over() -> None:
    topic = Topic()
    sender = Sender(topic, 1)
    sender.append(b"x" * 100)
    sender.append(b"2")
    del topic.messages[:2]
    assert [payload for _, payload in topic.records()] == [b"2"]


def test_messages_of_others_are_damage() -> None:
    topic = Topic()
    Sender(topic, 1)
    topic.add(b"hello")
    with pytest.raises(CorruptData, match="is not a message of a log"):
        topic.records()
    topic.messages.pop()
    replay = Replay("t", OTHER_CLUSTER)
    with pytest.raises(CorruptData, match="belongs to cluster"):
        replay.feed(*topic.messages[0])


@given(st.lists(st.lists(st.binary(max_size=90), min_size=1, max_size=3), max_size=300))
def test_records_are_spread_over_messages_within_the_limit(records: list[list[bytes]]) -> None:
    bodies = plan(records, LIMIT_BYTES)
    assert all(body.size_bytes <= LIMIT_BYTES for body in bodies)
    assert all(len(b"".join(body.buffers)) == body.size_bytes for body in bodies)
    assert all(body.records <= MAX_RECORDS for body in bodies)
    assert sum(body.records for body in bodies) == len(records)


@given(
    st.integers(0, (1 << LEDGER_BITS) - 1),
    st.integers(0, (1 << ENTRY_BITS) - 1),
    st.integers(0, MAX_RECORDS - 1),
)
def test_positions_fit_63_bits_and_grow_with_the_log(ledger: int, entry: int, index: int) -> None:
    position = Entry(ledger, entry).position(index)
    assert 0 <= position < 1 << 63
    assert Entry.of(position) == (ledger, entry)
    assert Entry.of(position).position(index) == position


@pytest.mark.parametrize("entry", [Entry(1 << LEDGER_BITS, 0), Entry(0, 1 << ENTRY_BITS)])
def test_what_does_not_fit_a_position_is_refused(entry: Entry) -> None:
    with pytest.raises(InternalError, match="can't be a position"):
        entry.position()
