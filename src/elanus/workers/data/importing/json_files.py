"""JSON files: ``{"rows": [{…}, …]}``, ``[{…}, …]``, or one object in each line.

The first two are read as a stream of events, so that a file of any size is never in memory.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ijson
import orjson

from elanus.errors import ImportFailed
from elanus.rows.texts import json_name
from elanus.workers.data.importing.pieces import BATCH_BYTES, MAX_BATCH_ROWS, Objects

_HEAD_BYTES = 4_096
_MAX_LINE_BYTES = 64 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ARRAY = re.compile(rb"\s*\[")
_ROWS = re.compile(rb'\s*\{\s*"rows"\s*:\s*\[')


def read_json(path: Path) -> Iterator[Objects]:
    """Pieces of the file. Raises ImportFailed for what can't be read or is no object."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file.seek(len(_BYTE_ORDER_MARK) if head.startswith(_BYTE_ORDER_MARK) else 0)
        head = head.removeprefix(_BYTE_ORDER_MARK)
        if _ARRAY.match(head):
            yield from _batches(file, _streamed(file, "item"))
        elif _ROWS.match(head):
            yield from _batches(file, _streamed(file, "rows.item"))
        elif head.strip():
            yield from _batches(file, _lines(file))


def _streamed(file: BinaryIO, prefix: str) -> Iterator[Any]:
    try:
        yield from ijson.items(file, prefix, use_float=True)
    except ijson.JSONError as error:
        raise ImportFailed(f"not valid JSON: {error}") from error


def _lines(file: BinaryIO) -> Iterator[Any]:
    number = 0
    while line := file.readline(_MAX_LINE_BYTES):
        if line.strip():
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise ImportFailed(f"row {number} is not valid JSON: {error}") from error
            number += 1


def _batches(file: BinaryIO, rows: Iterator[Any]) -> Iterator[Objects]:
    batch: list[dict[str, Any]] = []
    first_row, started = 0, file.tell()
    for row in rows:
        if not isinstance(row, dict):
            number = first_row + len(batch)
            raise ImportFailed(f"row {number} should be an object, but is {json_name(row)}")
        batch.append(row)
        if len(batch) >= MAX_BATCH_ROWS or file.tell() - started >= BATCH_BYTES:
            yield Objects(first_row, batch)
            first_row += len(batch)
            batch, started = [], file.tell()
    if batch:
        yield Objects(first_row, batch)
