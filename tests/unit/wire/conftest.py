"""The protocol as everybody else has it: stock classes from an independent pool, as oracle."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import elanus.wire.protocol

DESCRIPTORS = Path(elanus.wire.protocol.__file__).with_name("_descriptors.binpb")


@cache
def _stock_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@pytest.fixture(scope="session")
def stock() -> Callable[[str], Any]:
    """The class that protoc would generate: ``stock("milvus.proto.schema.FieldData")``."""

    def message_class(full_name: str) -> Any:
        return message_factory.GetMessageClass(_stock_pool().FindMessageTypeByName(full_name))

    return message_class
