"""What the Java servers have in common: a small JVM that starts fast."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.services.base import ServiceMissingError

FAST_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")


def java(heap_mb: int, classpath: str, main: str, options: Sequence[str] = ()) -> list[str]:
    """The command that runs a class; its arguments are to be added."""
    program = shutil.which("java")
    if program is None:
        raise ServiceMissingError("java is not installed: Debian has it as openjdk-17-jre-headless")
    return [program, f"-Xmx{heap_mb}m", *FAST_START, *options, "-cp", classpath, main]


def write_properties(file: Path, properties: dict[str, object]) -> None:
    file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
