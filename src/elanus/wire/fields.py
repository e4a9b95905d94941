"""The fields of a serialized message as they stand among its bytes, without reading it."""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types."""


def place_of(data: bytes, number: int) -> tuple[int, int] | None:
    """Where the content of field ``number``, of type bytes, begins and ends. None if it is not
    there exactly once, or if ``data`` is no message or has groups.

    Whoever has the same bytes before and behind this place has the same message but for this field:
    the length of the content stands before it.
    """
    places = []
    try:
        for found, wire_type, start, end in _fields(data):
            if found == number:
                if wire_type != _BYTES:
                    return None
                places.append((start, end))
    except (IndexError, ValueError):
        return None
    return places[0] if len(places) == 1 else None


def _fields(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, start and end of the content) of each field. Raises IndexError or
    ValueError where ``data`` can't be read."""
    position = 0
    while position < len(data):
        tag, start = _varint(data, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, position = _varint(data, start)
        elif wire_type == _BYTES:
            size, start = _varint(data, start)
            position = start + size
        elif wire_type in (_FIXED32, _FIXED64):
            position = start + (4 if wire_type == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {wire_type}")
        if position > len(data):
            raise ValueError("a field is cut off")
        yield tag >> 3, wire_type, start, position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
