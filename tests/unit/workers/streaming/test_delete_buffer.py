import pyarrow as pa

from elanus.services.messages import PrimaryKeys
from elanus.workers.streaming.delete_buffer import BufferedDelete, DeleteBuffer


def entry(timestamp: int) -> BufferedDelete:
    return BufferedDelete(timestamp, timestamp, (PrimaryKeys(pa.array([timestamp]), -1),))


def test_entries_stay_until_they_are_flushed_and_part_of_the_view() -> None:
    buffer = DeleteBuffer()
    for timestamp in (10, 20, 30):
        buffer.append(entry(timestamp))
    assert buffer.forget(30) == 0
    buffer.mark_flushed(20)
    assert [e.timestamp for e in buffer.unflushed()] == [30]
    assert buffer.forget(15) == 8
    assert buffer.forgotten_ts == 10
    assert buffer.forget(30) == 8
    assert [e.timestamp for e in buffer.after(0)] == [30]
    assert buffer.size_bytes == 8


def test_after_is_exclusive() -> None:
    buffer = DeleteBuffer()
    buffer.append(entry(10))
    buffer.append(entry(20))
    assert [e.timestamp for e in buffer.after(10)] == [20]
    assert [e.timestamp for e in buffer.after(9)] == [10, 20]
