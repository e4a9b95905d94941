"""The fast string tests agree with Python's on any texts, at any place in their buffers."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elanus.engine.filter import strings
from elanus.engine.filter.like import like
from elanus.engine.filter.pattern import parse_like

texts = st.text("ab\0é€", max_size=12) | st.sampled_from(
    ["abababab", "ababababa", "aaaaaaaaaaaaaaaaa"]
)
columns = st.lists(texts, max_size=12)
RELAXED = settings(deadline=None, max_examples=300, derandomize=True)


def sliced(rows: list[str], skipped: int) -> tuple[pa.Array, list[str]]:
    return pa.array(rows, pa.string()).slice(skipped), rows[skipped:]


@RELAXED
@given(columns, texts, st.integers(0, 3))
def test_one_text(rows: list[str], text: str, skipped: int) -> None:
    column, rows = sliced(rows, skipped)
    assert strings.equals(column, text).tolist() == [row == text for row in rows]
    assert strings.starts_with(column, text).tolist() == [row.startswith(text) for row in rows]
    assert strings.ends_with(column, text).tolist() == [row.endswith(text) for row in rows]
    assert strings.contains(column, text).tolist() == [text in row for row in rows]
    key = text.encode()
    assert strings.ordered(column, "<", text).tolist() == [row.encode() < key for row in rows]
    assert strings.ordered(column, "<=", text).tolist() == [row.encode() <= key for row in rows]
    assert strings.ordered(column, ">", text).tolist() == [row.encode() > key for row in rows]
    assert strings.ordered(column, ">=", text).tolist() == [row.encode() >= key for row in rows]


@RELAXED
@given(columns, st.text("ab\0é€%_", max_size=6), st.integers(0, 3))
def test_like(rows: list[str], pattern: str, skipped: int) -> None:
    column, rows = sliced(rows, skipped)
    expression = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)
    found = like(parse_like(pattern), column).tolist()
    assert found == [re.fullmatch(expression, row, re.DOTALL) is not None for row in rows]


@RELAXED
@given(columns, st.lists(texts, max_size=20), st.integers(0, 3))
def test_many_texts(rows: list[str], wanted: list[str], skipped: int) -> None:
    column, rows = sliced(rows, skipped)
    values = pa.array(sorted(set(wanted)), pa.string())
    assert strings.member(column, values).tolist() == [row in wanted for row in rows]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 9])
def test_a_search_crosses_its_pieces(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strings, "SEARCH_PIECE_BYTES", 7)
    wanted = bytes(range(1, size + 1))
    data = (b"\0\1\2" + wanted + b"\5") * 9 + wanted
    expected = [at for at in range(len(data)) if data.startswith(wanted, at)]
    found = strings.find_bytes(np.frombuffer(data, np.uint8), wanted)
    assert found.tolist() == expected


@RELAXED
@given(
    st.lists(st.sampled_from([0, 0, 0, 1, 2, 9, 200]), min_size=1, max_size=60),
    st.integers(1, 12),
    st.integers(0, 3),
)
def test_a_byte_belongs_to_the_value_that_it_lies_in(
    lengths: list[int], step: int, first: int
) -> None:
    offsets = np.cumsum([first, *lengths], dtype=np.int32)
    owners = np.repeat(np.arange(len(lengths)), lengths)[::step]
    places = np.arange(first, offsets[-1])[::step]
    assert strings.rows_of(offsets, places).tolist() == owners.tolist()
