"""Pieces of files as complete rows, checked by the rules of an insert.

A row that breaks a rule is looked for, so that the error names the file, the row and the field.
"""

from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from elanus.errors import ElanusError, ImportFailed, InvalidParameter
from elanus.model.schema import DYNAMIC_FIELD
from elanus.model.timestamptz import zone_of
from elanus.rows.build import (
    build_rows,
    by_field,
    decoded_columns,
    generated_keys,
    generates_keys,
)
from elanus.rows.checks import read_times
from elanus.rows.objects import WriteMode, field_messages
from elanus.rows.structs import check_structs
from elanus.rows.texts import json_name
from elanus.wire.columns import WireColumn
from elanus.workers.data.importing.columns import wire_columns
from elanus.workers.data.importing.pieces import Objects, Piece
from elanus.workers.data.importing.request import ImportRequest


@dataclass(frozen=True, slots=True)
class Converter:
    """See the module."""

    request: ImportRequest

    def needs_keys(self, piece: Piece) -> bool:
        """Whether the server makes the primary keys of these rows."""
        primary = self.request.collection.schema.primary
        return primary.auto_id and not piece.has(primary.name)

    def rows(self, piece: Piece, name: str, first_key: int) -> pa.RecordBatch:
        """Complete rows of a piece of the file ``name``, with generated keys from ``first_key``
        on, if keys are needed. Raises ImportFailed."""
        try:
            return self._convert(piece, first_key)
        except ElanusError as error:
            raise self._located(piece, name, error) from error

    def _convert(self, piece: Piece, first_key: int) -> pa.RecordBatch:
        collection = self.request.collection
        schema = collection.schema
        given = self._given(piece)
        keys = None
        if generates_keys(schema, given, collection.properties):
            keys = generated_keys(schema.primary, first_key, len(piece))
        return build_rows(
            given,
            schema,
            len(piece),
            primary_keys=keys,
            json_max_length=self.request.json_max_length,
        )

    def _given(self, piece: Piece) -> dict[str, WireColumn]:
        collection = self.request.collection
        schema, zone = collection.schema, zone_of(collection.timezone)
        if isinstance(piece, Objects):
            rows = [_without_meta(row, piece.first_row + n) for n, row in enumerate(piece.rows)]
            mode = WriteMode(first_row=piece.first_row)
            messages = field_messages(rows, schema, collection.properties, mode)
            return decoded_columns(messages, schema, zone)
        given = by_field(wire_columns(piece, schema, self.request.null_text), schema)
        check_structs(given, schema)
        return read_times(given, schema, zone)

    def _located(self, piece: Piece, name: str, error: ElanusError) -> ImportFailed:
        """The same error of the first row that has it, if it is one row's."""
        start, end = 0, len(piece)
        while end - start > 1:
            middle = (start + end) // 2
            if self._fails(piece.part(start, middle)):
                end = middle
            else:
                start = middle
        first, last = piece.first_row, piece.first_row + len(piece) - 1
        where = f"rows {first} to {last}"
        try:
            self._convert(piece.part(start, end), 0)
        except ElanusError as single:
            error, where = single, f"row {first + start}"
        return ImportFailed(f"file {name}, {where}: {error.message}")

    def _fails(self, piece: Piece) -> bool:
        try:
            self._convert(piece, 0)
        except ElanusError:
            return True
        return False


def _without_meta(row: dict[str, Any], number: int) -> dict[str, Any]:
    """The row with what its ``$meta`` has as keys of its own."""
    if DYNAMIC_FIELD not in row:
        return row
    rest = {key: value for key, value in row.items() if key != DYNAMIC_FIELD}
    meta = row[DYNAMIC_FIELD]
    try:
        parsed = orjson.loads(meta) if isinstance(meta, str) else meta
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(f"row {number} has no valid JSON in {DYNAMIC_FIELD}") from error
    if parsed is not None and not isinstance(parsed, dict):
        raise InvalidParameter(
            f"row {number} should have an object in {DYNAMIC_FIELD}, but has {json_name(parsed)}"
        )
    return {**rest, **(parsed or {})}
