"""Takes Milvus's protocol descriptors out of the ``pymilvus`` package, at build time.

``pymilvus`` carries the protocol as serialized file descriptors inside its generated modules. They
are read with ``ast``, so that nothing of the package is ever imported, reduced to what
``MilvusService`` can reach, and written as one ``FileDescriptorSet`` to
``src/elanus/wire/_descriptors.binpb``, which ``elanus.wire.protocol`` loads.

Hatchling runs this as a build hook for wheels and editable installs. By hand::

    python scripts/build_descriptors.py [--package-dir .../site-packages/pymilvus] [--output FILE]
"""

import argparse
import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand where hatchling is not installed
    BuildHookInterface = object

MODULES = ("common", "rg", "schema", "feder", "msg", "milvus")
SERVICE = ".milvus.proto.milvus.MilvusService"
# Travel inside bytes fields, so that no message refers to them.
PARSED_FROM_BYTES = (".milvus.proto.common.PlaceholderGroup",)
OUTPUT = Path("src/elanus/wire/_descriptors.binpb")
MESSAGE_TYPES = (
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
    descriptor_pb2.FieldDescriptorProto.TYPE_ENUM,
)


class DescriptorBuildHook(BuildHookInterface):
    """Writes the descriptor file before a wheel or an editable install is put together.

    Without ``pymilvus`` (a build without isolation) a file of an earlier build is kept.
    """

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        output = Path(self.root) / OUTPUT
        package = find_package()
        if package is not None:
            write_descriptors(package, output)
        elif output.exists():
            self.app.display_warning(f"pymilvus is not installed: keeping {OUTPUT} as it is")
        else:
            raise FileNotFoundError("the build needs the protocol descriptors of pymilvus==3.0.2")


def find_package() -> Path | None:
    """The directory of the installed ``pymilvus``, found without importing it."""
    spec = importlib.util.find_spec("pymilvus")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def write_descriptors(package: Path, output: Path) -> None:
    """Reads the generated modules of ``package`` and writes the descriptor set to ``output``."""
    files = [read_descriptor(package / "grpc_gen" / f"{name}_pb2.py") for name in MODULES]
    kept = prune(files)
    descriptors = descriptor_pb2.FileDescriptorSet(file=kept)
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


def prune(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> list[descriptor_pb2.FileDescriptorProto]:
    """Copies of ``files`` with only the service, the messages and enums that it can reach, and the
    extensions that mark requests with their privilege. Files that become empty are dropped."""
    reachable = _reachable(files)
    kept = []
    for file in files:
        copy = descriptor_pb2.FileDescriptorProto()
        copy.CopyFrom(file)
        prefix = f".{file.package}."
        for field in (copy.message_type, copy.enum_type):
            wanted = [entry for entry in field if prefix + entry.name in reachable]
            del field[:]
            field.extend(wanted)
        services = [service for service in copy.service if prefix + service.name == SERVICE]
        del copy.service[:]
        copy.service.extend(services)
        if copy.message_type or copy.enum_type or copy.service or copy.extension:
            kept.append(copy)
    names = {file.name for file in kept}
    for file in kept:
        wanted_imports = [n for n in file.dependency if n in names or n.startswith("google/")]
        del file.dependency[:]
        file.dependency.extend(wanted_imports)
    return kept


def _reachable(files: list[descriptor_pb2.FileDescriptorProto]) -> set[str]:
    """Full names (with a leading dot) of the top-level messages and enums that the service and the
    extensions refer to, directly or not."""
    messages = {f".{f.package}.{m.name}": m for f in files for m in f.message_type}
    enums = {f".{f.package}.{e.name}" for f in files for e in f.enum_type}
    top_level = messages.keys() | enums
    waiting = [
        name
        for file in files
        for service in file.service
        if f".{file.package}.{service.name}" == SERVICE
        for method in service.method
        for name in (method.input_type, method.output_type)
    ]
    waiting += [field.type_name for file in files for field in file.extension if field.type_name]
    waiting += PARSED_FROM_BYTES
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
    parser = argparse.ArgumentParser(description="write the protocol descriptors")
    parser.add_argument("--package-dir", type=Path, help="directory of the pymilvus package")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).resolve().parent.parent / OUTPUT
    )
    arguments = parser.parse_args()
    package = arguments.package_dir or find_package()
    if package is None:
        parser.error("pymilvus is not installed here; give --package-dir")
    write_descriptors(package, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
