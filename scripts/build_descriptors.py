"""Takes the descriptors of protocols that we speak out of packages of clients, at build time.

Milvus's come from ``pymilvus``, etcd's from ``etcd3aio``. Both carry the protocol as serialized
file descriptors inside generated modules. They are read with ``ast``, so that nothing of the
packages is ever imported, reduced to what the services that we use can reach, and written as one
``FileDescriptorSet`` each, into ``src/elanus/wire`` and ``src/elanus/storage/meta``.

Hatchling runs this as a build hook for wheels and editable installs. By hand::

    python scripts/build_descriptors.py pymilvus [--package-dir .../pymilvus] [--output FILE]
"""

import argparse
import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand where hatchling is not installed
    BuildHookInterface = object


@dataclass(frozen=True)
class Protocol:
    """One file to write: ``services`` and all that they reach, out of ``modules`` of ``package``.

    ``extra_messages`` travel inside bytes fields, so that no other message refers to them.
    """

    package: str
    modules: tuple[str, ...]
    services: tuple[str, ...]
    output: Path
    keeps_options: bool
    extra_messages: tuple[str, ...] = ()


PROTOCOLS = (
    Protocol(
        package="pymilvus",
        modules=tuple(
            f"grpc_gen/{name}_pb2.py"
            for name in ("common", "rg", "schema", "feder", "msg", "milvus")
        ),
        services=(".milvus.proto.milvus.MilvusService",),
        output=Path("src/elanus/wire/_descriptors.binpb"),
        keeps_options=True,
        extra_messages=(".milvus.proto.common.PlaceholderGroup",),
    ),
    Protocol(
        package="etcd3aio",
        modules=tuple(
            f"proto/etcd/api/{name}_pb2.py"
            for name in ("mvccpb/kv", "authpb/auth", "etcdserverpb/rpc")
        ),
        services=tuple(f".etcdserverpb.{name}" for name in ("KV", "Watch", "Lease", "Auth")),
        output=Path("src/elanus/storage/meta/_etcd_descriptors.binpb"),
        keeps_options=False,
    ),
)
MESSAGE_TYPES = (
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
    descriptor_pb2.FieldDescriptorProto.TYPE_ENUM,
)


class DescriptorBuildHook(BuildHookInterface):
    """Writes the descriptor files before a wheel or an editable install is put together.

    Without the packages (a build without isolation) the files of an earlier build are kept.
    """

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for protocol in PROTOCOLS:
            output = Path(self.root) / protocol.output
            package = find_package(protocol.package)
            if package is not None:
                write_descriptors(protocol, package, output)
            elif output.exists():
                self.app.display_warning(
                    f"{protocol.package} is not installed: keeping {protocol.output} as it is"
                )
            else:
                raise FileNotFoundError(
                    f"the build needs the protocol descriptors of {protocol.package}"
                )


def find_package(name: str) -> Path | None:
    """The directory of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def write_descriptors(protocol: Protocol, package: Path, output: Path) -> None:
    """Reads the generated modules of ``package`` and writes the descriptor set to ``output``."""
    files = [read_descriptor(package / module) for module in protocol.modules]
    if not protocol.keeps_options:
        for file in files:
            strip_options(file)
    descriptors = descriptor_pb2.FileDescriptorSet(file=prune(protocol, files))
    output.write_bytes(descriptors.SerializeToString(deterministic=True))


def read_descriptor(module: Path) -> descriptor_pb2.FileDescriptorProto:
    """The file descriptor that a generated module registers: the bytes of AddSerializedFile."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "AddSerializedFile"
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, bytes)
        ):
            return descriptor_pb2.FileDescriptorProto.FromString(node.args[0].value)
    raise ValueError(f"{module} registers no file descriptor")


def strip_options(message: Message) -> None:
    """Takes the options out of a descriptor and all within: they belong to files of others."""
    for field, value in message.ListFields():
        if field.name == "options":
            message.ClearField("options")
        elif field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                strip_options(part)


def prune(
    protocol: Protocol, files: list[descriptor_pb2.FileDescriptorProto]
) -> list[descriptor_pb2.FileDescriptorProto]:
    """Copies of ``files`` with only the services, the messages and enums that they can reach, and
    the extensions that mark requests with their privilege. Files that become empty are dropped."""
    reachable = _reachable(protocol, files)
    kept = []
    for file in files:
        copy = descriptor_pb2.FileDescriptorProto()
        copy.CopyFrom(file)
        prefix = f".{file.package}."
        for field in (copy.message_type, copy.enum_type):
            wanted = [entry for entry in field if prefix + entry.name in reachable]
            del field[:]
            field.extend(wanted)
        services = [s for s in copy.service if prefix + s.name in protocol.services]
        del copy.service[:]
        copy.service.extend(services)
        if copy.message_type or copy.enum_type or copy.service or copy.extension:
            kept.append(copy)
    names = {file.name for file in kept}
    for file in kept:
        wanted_imports = [
            name for name in file.dependency if name in names or name.startswith("google/protobuf/")
        ]
        del file.dependency[:]
        file.dependency.extend(wanted_imports)
    return kept


def _reachable(protocol: Protocol, files: list[descriptor_pb2.FileDescriptorProto]) -> set[str]:
    """Full names (with a leading dot) of the top-level messages and enums that the services and
    the extensions refer to, directly or not."""
    messages = {f".{f.package}.{m.name}": m for f in files for m in f.message_type}
    enums = {f".{f.package}.{e.name}" for f in files for e in f.enum_type}
    top_level = messages.keys() | enums
    waiting = [
        name
        for file in files
        for service in file.service
        if f".{file.package}.{service.name}" in protocol.services
        for method in service.method
        for name in (method.input_type, method.output_type)
    ]
    waiting += [field.type_name for file in files for field in file.extension if field.type_name]
    waiting += protocol.extra_messages
    seen: set[str] = set()
    while waiting:
        name = _top_level_name(waiting.pop(), top_level)
        if name in seen:
            continue
        seen.add(name)
        if name in messages:
            waiting.extend(_references(messages[name]))
    return seen


def _references(message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    for field in message.field:
        if field.type in MESSAGE_TYPES:
            yield field.type_name
    for nested in message.nested_type:
        yield from _references(nested)


def _top_level_name(name: str, top_level: set[str]) -> str:
    """``.package.Outer`` for ``.package.Outer.Inner``."""
    while name not in top_level:
        name, _, rest = name.rpartition(".")
        if not rest:
            raise ValueError("a field refers to a message that no file defines")
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description="write the descriptors of a protocol")
    protocols = {protocol.package: protocol for protocol in PROTOCOLS}
    parser.add_argument("package", choices=protocols, help="the package that carries the protocol")
    parser.add_argument("--package-dir", type=Path, help="directory of the package")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    protocol = protocols[arguments.package]
    package = arguments.package_dir or find_package(protocol.package)
    if package is None:
        parser.error(f"{protocol.package} is not installed here; give --package-dir")
    output = arguments.output or Path(__file__).resolve().parent.parent / protocol.output
    write_descriptors(protocol, package, output)
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
