"""etcd's protobuf messages and the methods that we call.

The descriptors come from ``_etcd_descriptors.binpb``, which the build takes out of the
``etcd3aio`` package. They live in a private pool, so that another etcd client in the same process
can't collide with them.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_DESCRIPTORS = Path(__file__).with_name("_etcd_descriptors.binpb")
_PACKAGE = "etcdserverpb"


@dataclass(frozen=True, slots=True)
class Method:
    """``path`` as gRPC wants it; ``response`` is the class of the answer."""

    path: str
    response: Any


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    try:
        data = _DESCRIPTORS.read_bytes()
    except FileNotFoundError as error:
        raise ImportError(
            f"{_DESCRIPTORS} is missing: install the package, or run scripts/build_descriptors.py"
        ) from error
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _message(name: str) -> Any:
    descriptor = _pool().FindMessageTypeByName(f"{_PACKAGE}.{name}")
    return message_factory.GetMessageClass(descriptor)


def _method(service: str, name: str) -> Method:
    method = _pool().FindServiceByName(f"{_PACKAGE}.{service}").FindMethodByName(name)
    response = message_factory.GetMessageClass(method.output_type)
    return Method(f"/{_PACKAGE}.{service}/{name}", response)


AuthenticateRequest = _message("AuthenticateRequest")
Compare = _message("Compare")
DeleteRangeRequest = _message("DeleteRangeRequest")
LeaseGrantRequest = _message("LeaseGrantRequest")
LeaseKeepAliveRequest = _message("LeaseKeepAliveRequest")
LeaseRevokeRequest = _message("LeaseRevokeRequest")
PutRequest = _message("PutRequest")
RangeRequest = _message("RangeRequest")
RequestOp = _message("RequestOp")
TxnRequest = _message("TxnRequest")
WatchCreateRequest = _message("WatchCreateRequest")
WatchRequest = _message("WatchRequest")
WatchResponse = _message("WatchResponse")

AUTHENTICATE = _method("Auth", "Authenticate")
LEASE_GRANT = _method("Lease", "LeaseGrant")
LEASE_KEEP_ALIVE = _method("Lease", "LeaseKeepAlive")
LEASE_REVOKE = _method("Lease", "LeaseRevoke")
RANGE = _method("KV", "Range")
TRANSACTION = _method("KV", "Txn")
WATCH = _method("Watch", "Watch")
