"""Messages and values as bytes: msgpack by field name, columns as they lie in memory.

What is encoded by name can grow: a receiver ignores fields that it doesn't know and gives its
defaults to those that it misses, so two versions of a program understand each other as long as new
fields have defaults and old ones keep their meaning.

Columns travel as msgpack extensions: a NumPy array as its dtype, shape and bytes, an Arrow array or
record batch as an Arrow IPC stream; or, in half the time, as its schema and one IPC message, to
those who say that they know that (``BATCHES``). Decoded columns refer to the message's memory;
arrays are read-only.
"""

import struct
from functools import cache, lru_cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

BATCHES, BARE = "elanus-batches", "bare"
"""What a caller says, and its value, if the answer may have bare batches."""

_NUMPY, _BATCH, _ARRAY, _BARE_BATCH, _BARE_ARRAY = 1, 2, 3, 4, 5
_COLUMN = "0"
_MAX_KNOWN_DTYPES = _MAX_KNOWN_SCHEMAS = _MAX_KNOWN_ARRAYS = 256
_SHORT_BYTES = 16
"""Arrays of no element, of which answers have many, are made once."""
_HEAD = struct.Struct("<BB")
_DIMENSION = struct.Struct("<q")
_LENGTH = struct.Struct("<I")


def encode(value: Any, *, bare: bool = False) -> bytes:
    """The bytes of a message, a record or a plain value. ``bare``: with bare batches."""
    return (_bare_encoder if bare else _encoder).encode(value)


def decode(data: bytes | memoryview, kind: Any) -> Any:
    """The value of type ``kind``. Raises msgspec.DecodeError if the bytes hold none."""
    return _decoder(kind).decode(data)


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind, ext_hook=_decode_column)


def _encode_bare(value: Any) -> msgspec.msgpack.Ext:
    if isinstance(value, np.ndarray):
        return msgspec.msgpack.Ext(_NUMPY, _numpy_bytes(value))
    is_array = isinstance(value, pa.Array)
    if is_array or isinstance(value, pa.RecordBatch):
        batch = pa.record_batch({_COLUMN: value}) if is_array else value
        head = _schema_head(batch.schema)
        if head is not None:
            code = _BARE_ARRAY if is_array else _BARE_BATCH
            return msgspec.msgpack.Ext(code, b"".join((head, batch.serialize())))
    return _encode_column(value)


def _encode_column(value: Any) -> msgspec.msgpack.Ext:
    match value:
        case np.ndarray():
            return msgspec.msgpack.Ext(_NUMPY, _numpy_bytes(value))
        case pa.RecordBatch():
            return msgspec.msgpack.Ext(_BATCH, _stream(value))
        case pa.Array():
            return msgspec.msgpack.Ext(_ARRAY, _stream(pa.record_batch({_COLUMN: value})))
        case np.generic():
            return msgspec.msgpack.Ext(_NUMPY, _numpy_bytes(np.asarray(value)))
        case _:
            raise NotImplementedError(f"{type(value).__name__} can't travel between roles")


def _decode_column(code: int, data: memoryview) -> Any:
    if code == _NUMPY:
        return _numpy_array(data) if len(data) > _SHORT_BYTES else _short_array(bytes(data))
    if code in (_BARE_BATCH, _BARE_ARRAY):
        batch = _bare_batch(data)
    else:
        with pa.ipc.open_stream(pa.py_buffer(data)) as stream:
            batch = stream.read_next_batch()
    return batch if code in (_BATCH, _BARE_BATCH) else batch.column(0)


def _numpy_bytes(array: np.ndarray[Any, Any]) -> bytes:
    head = _numpy_head(array.dtype, array.ndim)
    return b"".join((head, *map(_DIMENSION.pack, array.shape), array.tobytes()))


@lru_cache(_MAX_KNOWN_DTYPES)
def _numpy_head(dtype: np.dtype[Any], dimensions: int) -> bytes:
    name = dtype.str.encode()
    return _HEAD.pack(len(name), dimensions) + name


@lru_cache(_MAX_KNOWN_ARRAYS)
def _short_array(data: bytes) -> np.ndarray[Any, Any]:
    return _numpy_array(memoryview(data))


def _numpy_array(data: memoryview) -> np.ndarray[Any, Any]:
    dtype_length, dimensions = _HEAD.unpack_from(data)
    start = _HEAD.size + dtype_length
    dtype = _dtype(bytes(data[_HEAD.size : start]))
    array = np.frombuffer(data, dtype, offset=start + 8 * dimensions)
    if dimensions != 1:
        array = array.reshape(
            [_DIMENSION.unpack_from(data, start + 8 * n)[0] for n in range(dimensions)]
        )
    if array.flags.aligned:
        return array
    aligned = array.copy()
    aligned.flags.writeable = False
    return aligned


@lru_cache(_MAX_KNOWN_DTYPES)
def _dtype(name: bytes) -> np.dtype[Any]:
    return np.dtype(name.decode())


@lru_cache(_MAX_KNOWN_SCHEMAS)
def _schema_head(schema: pa.Schema) -> bytes | None:
    """What stands before a batch's message. None: it has dictionaries, which need messages of their
    own."""
    if any(pa.types.is_dictionary(kind) for kind in schema.types):
        return None
    serialized: bytes = schema.serialize().to_pybytes()
    return _LENGTH.pack(len(serialized)) + serialized


def _bare_batch(data: memoryview) -> pa.RecordBatch:
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    schema = _schema(bytes(data[_LENGTH.size : end]))
    return pa.ipc.read_record_batch(pa.py_buffer(data[end:]), schema)


@lru_cache(_MAX_KNOWN_SCHEMAS)
def _schema(serialized: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(serialized))


def _stream(batch: pa.RecordBatch) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_column)
_bare_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_bare)
