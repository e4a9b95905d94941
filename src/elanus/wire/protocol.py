"""Milvus's protobuf messages, as views that hand bulk data over as bytes.

The descriptors come from ``_descriptors.binpb``, which the build takes out of the ``pymilvus``
package. They live in a private pool, so that another copy of the same protocol (a client in the
same process) can't collide with them.

A packed ``repeated float`` is, on the wire, a length and the little-endian values: exactly what a
``bytes`` field is. So every repeated field of floats, doubles, fixed-width integers and bools is
declared ``repeated bytes`` here. Both declarations read and write the same wire format, but bytes
become a NumPy array without a Python object for each number. ``repeated``, because protobuf lets a
sender split a packed field into several pieces. :func:`packed` reads such a field, in any form that
protobuf allows; only the modules beside this one use it.

Fields with an int32 or int64 stay what they are: their varints are protobuf's business.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from elanus.errors import InvalidParameter

SERVICE = "milvus.proto.milvus.MilvusService"

_DESCRIPTORS = Path(__file__).with_name("_descriptors.binpb")
_Field = descriptor_pb2.FieldDescriptorProto
_VIEW_DTYPES: dict[int, np.dtype[Any]] = {
    _Field.TYPE_FLOAT: np.dtype("<f4"),
    _Field.TYPE_DOUBLE: np.dtype("<f8"),
    _Field.TYPE_FIXED32: np.dtype("<u4"),
    _Field.TYPE_SFIXED32: np.dtype("<i4"),
    _Field.TYPE_FIXED64: np.dtype("<u8"),
    _Field.TYPE_SFIXED64: np.dtype("<i8"),
    _Field.TYPE_BOOL: np.dtype("?"),
}


def message(full_name: str) -> Any:
    """The class of the message ``full_name``, for example ``milvus.proto.milvus.InsertRequest``.

    Packed fixed-width fields are ``repeated bytes`` in it (see the module).
    """
    return _message_class(full_name, views=True)


class Namespace:
    """The messages and enum values of one protobuf package as attributes: ``schema.FieldData``."""

    def __init__(self, package: str) -> None:
        self._package = package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            found = message(f"{self._package}.{name}")
        except KeyError:
            raise AttributeError(f"the package {self._package} has no message {name}") from None
        setattr(self, name, found)
        return found


common = Namespace("milvus.proto.common")
schema = Namespace("milvus.proto.schema")
milvus = Namespace("milvus.proto.milvus")


@dataclass(frozen=True)
class Method:
    """One RPC of MilvusService. The classes are made when they are first asked for."""

    name: str
    request_name: str
    response_name: str
    client_streaming: bool = False
    server_streaming: bool = False

    @cached_property
    def request(self) -> Any:
        return message(self.request_name)

    @cached_property
    def response(self) -> Any:
        return message(self.response_name)


@cache
def methods() -> dict[str, Method]:
    """Every method of MilvusService by its name, for example ``Insert``."""
    service = _pool(views=True).FindServiceByName(SERVICE)
    return {
        method.name: Method(
            method.name,
            method.input_type.full_name,
            method.output_type.full_name,
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    }


def parse(message_class: Any, data: bytes, what: str) -> Any:
    """Parses ``data`` as ``message_class``.

    Raises InvalidParameter, naming ``what`` (a method or a field), if it is not such a message.
    """
    try:
        return message_class.FromString(data)
    except DecodeError as error:
        name = message_class.DESCRIPTOR.name
        raise InvalidParameter(
            f"failed to decode {what}: {len(data)} bytes are not a valid {name} message"
        ) from error


def packed(view: Message, field_name: str) -> npt.NDArray[Any]:
    """The numbers of a packed field of a view, 1-d, with the dtype of its protobuf type.

    The array may be read-only and share memory. Raises InvalidParameter if the bytes don't divide
    into whole numbers.
    """
    number, dtype = _packed_field(view.DESCRIPTOR.full_name, field_name)
    # What protobuf could not read as bytes, it keeps as unknown: values that were not packed.
    unknown = unknown_fields.UnknownFieldSet(view)
    if any(unknown[i].field_number == number for i in range(len(unknown))):
        return _unpacked(view, field_name, dtype)
    pieces = getattr(view, field_name)
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if not data:
        return np.empty(0, dtype)
    if dtype.kind == "b":
        values = np.frombuffer(data, np.uint8)
        # A bool is a varint: 0 and 1 as every sender writes them, but longer forms are legal.
        return values.view(dtype) if values.max() <= 1 else _unpacked(view, field_name, dtype)
    if len(data) % dtype.itemsize:
        raise InvalidParameter(
            f"the {len(data)} bytes of {view.DESCRIPTOR.name}.{field_name} are not a whole number "
            f"of {dtype.itemsize}-byte values"
        )
    return np.frombuffer(data, dtype)


def packed_rows(
    parent: Message, rows: list[Any], field_name: str
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """:func:`packed` of many small views inside ``parent``: their numbers one after another, and
    how many each has."""
    if not rows:
        return np.empty(0), np.empty(0, np.int64)
    dtype = _packed_field(rows[0].DESCRIPTOR.full_name, field_name)[1]
    data = [b"".join(getattr(row, field_name)) for row in rows]
    sizes = np.fromiter(map(len, data), np.int64, len(data))
    joined = np.frombuffer(b"".join(data), np.uint8)
    plain = not (sizes % dtype.itemsize).any() and not _holds_unknown(parent)
    if plain and not (dtype.kind == "b" and joined.max(initial=0) > 1):
        return joined.view(dtype), sizes // dtype.itemsize
    parts = [packed(row, field_name) for row in rows]
    return np.concatenate(parts), np.fromiter(map(len, parts), np.int64, len(parts))


def pack(values: npt.NDArray[Any], dtype: str) -> list[bytes]:
    """What to assign to a packed field of a view: ``values`` as little-endian ``dtype``.

    Empty for no values, as protobuf writes nothing then.
    """
    return [np.ascontiguousarray(values, dtype).tobytes()] if len(values) else []


def _unpacked(view: Message, field_name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Reads a field that is not in the packed canonical form (legal, but nobody's default)."""
    original = _message_class(view.DESCRIPTOR.full_name, views=False)
    try:
        values = getattr(original.FromString(view.SerializeToString()), field_name)
    except DecodeError as error:
        raise InvalidParameter(
            f"{view.DESCRIPTOR.name}.{field_name} holds malformed values"
        ) from error
    return np.fromiter(values, dtype, len(values))


def _holds_unknown(message: Any) -> bool:
    """Whether a message, or one inside it, has a field that its class doesn't know."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    return bool(copy.ByteSize() != message.ByteSize())


@cache
def _packed_field(full_name: str, field_name: str) -> tuple[int, np.dtype[Any]]:
    """Number and dtype of a packed field."""
    descriptor: Descriptor = _pool(views=False).FindMessageTypeByName(full_name)
    field: FieldDescriptor = descriptor.fields_by_name[field_name]
    return field.number, _VIEW_DTYPES[field.type]


@cache
def _message_class(full_name: str, *, views: bool) -> Any:
    return message_factory.GetMessageClass(_pool(views=views).FindMessageTypeByName(full_name))


@cache
def _pool(*, views: bool) -> descriptor_pool.DescriptorPool:
    """A private pool with the protocol; ``views`` declares packed fields as bytes."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
    for file in _descriptor_set().file:
        if views:
            for declared in file.message_type:
                _declare_views(declared)
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    try:
        data = _DESCRIPTORS.read_bytes()
    except FileNotFoundError as error:
        raise ImportError(
            f"{_DESCRIPTORS} is missing: install the package, or run scripts/build_descriptors.py"
        ) from error
    return descriptor_pb2.FileDescriptorSet.FromString(data)


def _declare_views(declared: descriptor_pb2.DescriptorProto) -> None:
    for field in declared.field:
        if field.label == _Field.LABEL_REPEATED and field.type in _VIEW_DTYPES:
            field.type = _Field.TYPE_BYTES
    for nested in declared.nested_type:
        _declare_views(nested)
