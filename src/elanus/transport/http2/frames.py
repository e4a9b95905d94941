"""The bytes of HTTP/2 that our unary calls need: frames, and headers without a dynamic table
(RFC 9113, RFC 7541)."""

import struct

from hpack import Decoder

MAX_KNOWN_HEADERS = 256
MAX_HEADER_BYTES = 1 << 20

DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
GOAWAY, WINDOW_UPDATE, CONTINUATION = 7, 8, 9
"""Kinds of frames."""

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
"""Flags."""

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME = 1, 2, 3, 4, 5
"""Settings."""

NO_ERROR, REFUSED_STREAM, CANCEL = 0, 7, 8
"""Error codes."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD = struct.Struct(">HBBBI")
"""Length (two fields), kind, flags, stream."""

SETTING = struct.Struct(">HI")
UINT = struct.Struct(">I")
FRAME_HEAD_BYTES = 9


def frame(kind: int, flags: int, number: int, payload: bytes | memoryview) -> bytes:
    size = len(payload)
    return FRAME_HEAD.pack(size >> 8, size & 0xFF, kind, flags, number) + payload


def unpadded(payload: bytes, flags: int) -> bytes:
    """The payload of a DATA or HEADERS frame without padding and priority."""
    start = 1 if flags & PADDED else 0
    end = len(payload) - (payload[0] if start else 0)
    return payload[start + (5 if flags & PRIORITY else 0) : end]


def request_headers(scheme: str, authority: str, path: str) -> bytes:
    """Of a gRPC call, but for its timeout."""
    return b"".join(
        (
            indexed(3),  # :method POST
            indexed(7 if scheme == "https" else 6),
            literal(1, authority),
            literal(4, path),
            literal(31, "application/grpc"),
            header("te", "trailers"),
        )
    )


def header(name: str, value: str) -> bytes:
    """A header that nobody remembers."""
    return b"\x00" + _string(name) + _string(value)


class HeaderDecoder:
    """Headers that came before are known by their bytes: without a dynamic table the same bytes
    always mean the same."""

    def __init__(self) -> None:
        self._decoder = Decoder(MAX_HEADER_BYTES)
        self._known: dict[bytes, dict[str, str]] = {}

    def decode(self, block: bytes) -> dict[str, str]:
        """Raises hpack.HPACKError."""
        known = self._known.get(block)
        if known is not None:
            return known
        decoded = {str(name): str(value) for name, value in self._decoder.decode(block)}
        # A peer may use the table nevertheless.
        if self._decoder.header_table.dynamic_entries or len(self._known) >= MAX_KNOWN_HEADERS:
            self._known.clear()
        else:
            self._known[block] = decoded
        return decoded


def indexed(index: int) -> bytes:
    """A header that is in the static table as a whole."""
    return bytes((0x80 | index,))


def literal(index: int, value: str) -> bytes:
    """A header whose name is in the static table."""
    return _integer(index, 4) + _string(value)


def _string(text: str) -> bytes:
    data = text.encode()
    return _integer(len(data), 7) + data


def _integer(number: int, bits: int) -> bytes:
    limit = (1 << bits) - 1
    if number < limit:
        return bytes((number,))
    encoded = bytearray((limit,))
    number -= limit
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
