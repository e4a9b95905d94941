"""The rules of a topic, without a broker: what is acknowledged is what every reader sees."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.errors import CorruptData
from elanus.storage.wal._kafka_messages import (
    NO_FENCE,
    Header,
    Kind,
    LogDecoder,
    Message,
    offset_of,
    pack,
    position_at,
)

CLUSTER = b"c" * 16
OTHER = b"d" * 16


@dataclass
class Topic:
    """One total order of messages, as a broker gives it."""

    messages: list[Message] = field(default_factory=list)
    terms: list[int] = field(default_factory=list)
    low: int = 0

    def put(self, header: Header, value: bytes = b"") -> int:
        offset = len(self.messages)
        self.messages.append(Message(offset, header.encode(), value))
        return offset

    def read(self, after: int = -1) -> list[tuple[int, bytes]]:
        high = len(self.messages)
        decoder = LogDecoder.beginning("t", CLUSTER, after=after, low=self.low, high=high)
        found = decoder.records(self.messages[decoder.next_offset :])
        return [(record.position, bytes(record.payload)) for record in found]


@dataclass
class Writer:
    """Follows the rules of the log: a registered term, a fence, no gap that replaces it."""

    topic: Topic
    term: int
    fence: int = NO_FENCE
    next_offset: int = 0
    is_open: bool = False
    pending: list[tuple[bytes, int]] = field(default_factory=list)

    def register(self) -> None:
        self.topic.terms.append(self.term)

    def put_fence(self) -> None:
        self.fence = self.topic.put(Header(Kind.FENCE, self.term, NO_FENCE, 0, CLUSTER))
        self.next_offset = self.fence + 1

    def finish_opening(self) -> None:
        self.is_open = max(self.topic.terms) <= self.term

    def send(self, payload: bytes) -> None:
        """The messages land; whether they are acknowledged is asked later."""
        for part in pack([[payload]], limit=6):
            header = Header(
                Kind.RECORD, self.term, self.fence, 0, CLUSTER, 1, part.chunk, part.chunks
            )
            self.pending.append((payload, self.topic.put(header, part.value)))

    def acknowledge(self) -> tuple[int, bytes] | None:
        payload, last = self.pending[-1]
        for _, offset in self.pending:
            gap = self.topic.messages[self.next_offset : offset]
            decoder = LogDecoder.within(
                "t", CLUSTER, next_offset=self.next_offset, term=self.term, fence=self.fence
            )
            list(decoder.records(gap))
            if decoder.fence != self.fence:
                self.is_open = False
                return None
            self.next_offset = offset + 1
        self.pending.clear()
        return position_at(last, 0), payload


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["open", "append", "truncate"])), max_size=40
)


@given(STEPS)
def test_whatever_writers_do_what_is_acknowledged_is_seen_from_everywhere(
    steps: list[tuple[int, str]],
) -> None:
    topic = Topic()
    writers = [Writer(topic, term) for term in (1, 1, 2, 3)]
    opening = [0] * len(writers)
    acknowledged: dict[int, bytes] = {}
    opened_at = 0
    for number, (index, step) in enumerate(steps):
        writer = writers[index]
        if step == "truncate":
            topic.low = max([offset_of(p) for p in acknowledged if index] or [topic.low])
        elif not writer.is_open and not writer.pending:
            if max(topic.terms, default=0) <= writer.term or opening[index]:
                [writer.register, writer.put_fence, writer.finish_opening][opening[index]]()
                opening[index] = (opening[index] + 1) % 3
                opened_at = number if writer.is_open else opened_at
        elif writer.is_open and not writer.pending:
            writer.send(b"%03d" % number if number % 2 else b"%02d" % (number % 100))
        elif writer.is_open:
            answer = writer.acknowledge()
            if answer is not None:
                acknowledged[answer[0]] = answer[1]
    kept = {
        position: payload
        for position, payload in acknowledged.items()
        if offset_of(position) > topic.low
    }
    everything = topic.read()
    assert kept.items() <= dict(everything).items()
    for position in kept:
        assert topic.read(position) == [pair for pair in everything if pair[0] > position]


def test_a_fence_ends_older_writers_and_an_older_fence_ends_nobody() -> None:
    topic = Topic()
    old, new, late = Writer(topic, 1), Writer(topic, 2), Writer(topic, 1)
    old.put_fence()
    old.send(b"a")
    new.put_fence()
    old.send(b"no")
    new.send(b"b")
    late.put_fence()
    late.send(b"no")
    new.send(b"c")
    assert [payload for _, payload in topic.read()] == [b"a", b"b", b"c"]
    new.next_offset = new.fence + 1
    assert new.acknowledge() is not None
    assert old.acknowledge() is None


def test_a_record_whose_chunks_are_not_all_there_is_not_seen() -> None:
    topic = Topic()
    first = Writer(topic, 1)
    first.put_fence()
    topic.put(Header(Kind.RECORD, 1, first.fence, 0, CLUSTER, 1, 0, 2), b"half")
    second = Writer(topic, 1)
    second.put_fence()
    topic.put(Header(Kind.RECORD, 1, first.fence, 0, CLUSTER, 1, 1, 2), b"late")
    second.send(b"whole")
    assert [payload for _, payload in topic.read()] == [b"whole"]


@given(st.lists(st.lists(st.binary(max_size=20), max_size=3), max_size=12), st.integers(5, 40))
def test_records_come_back_whole_from_messages_that_keep_the_limit(
    records: list[list[bytes]], limit: int
) -> None:
    topic = Topic()
    writer = Writer(topic, 1)
    writer.put_fence()
    for part in pack(records, limit):
        assert len(part.value) <= limit
        header = Header(
            Kind.RECORD, 1, writer.fence, 0, CLUSTER, part.records, part.chunk, part.chunks
        )
        topic.put(header, part.value)
    everything = topic.read()
    assert [payload for _, payload in everything] == [b"".join(parts) for parts in records]
    for number, (position, _) in enumerate(everything):
        assert topic.read(position) == everything[number + 1 :]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (b"something", "is no message of a log"),
        (None, "is no message of a log"),
        (Header(Kind.FENCE, 1, NO_FENCE, 0, OTHER).encode(), "was written by the cluster"),
    ],
)
def test_what_others_put_into_the_topic_is_refused(key: bytes | None, text: str) -> None:
    topic = Topic([Message(0, key, b"")])
    with pytest.raises(CorruptData, match=text):
        topic.read()


def test_a_topic_that_lost_what_was_acknowledged_is_refused() -> None:
    topic = Topic()
    writer = Writer(topic, 1)
    writer.put_fence()
    writer.send(b"a")
    with pytest.raises(CorruptData, match="acknowledged"):
        topic.read(after=position_at(7, 0))
    del topic.messages[0]
    with pytest.raises(CorruptData, match="some are lost"):
        topic.read()
