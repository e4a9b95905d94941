import numpy as np
import pyarrow as pa

from elanus.workers.gather import by_source, interleave


def test_rows_of_several_holders_come_in_the_order_asked_for() -> None:
    sources = np.array([7, 3, 7, 5, 3])
    parts = [
        (positions, pa.record_batch({"x": [f"{source}-{p}" for p in positions.tolist()]}))
        for source, positions in by_source(sources)
    ]
    rows = interleave(parts, ("x",))
    assert rows.column("x").to_pylist() == ["7-0", "3-1", "7-2", "5-3", "3-4"]


def test_one_holder_needs_no_copy() -> None:
    ((source, positions),) = by_source(np.array([4, 4]))
    rows = pa.record_batch({"x": [1, 2]})
    assert source == 4
    assert interleave([(positions, rows)], ("x",)) is rows


def test_no_rows_have_no_source() -> None:
    assert by_source(np.empty(0, np.int64)) == []
