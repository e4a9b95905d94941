"""Dockerfile, Compose files and the wheel that goes into the image, checked without an engine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from elanus.config.loading import load_settings
from elanus.version import VERSION
from tests.services.fixtures import require_tool
from tests.services.packages import PROJECT
from tests.services.tools import COMPOSE, HADOLINT

FOLDER = PROJECT / "deploy"
ROLES = ("proxy", "coordinator", "streaming", "query", "data")
TIMEOUT_S = 300.0


def run(*command: str | Path, **options: Any) -> str:
    words = [str(word) for word in command]
    result = subprocess.run(
        words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **options
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def composed(name: str, tmp_path: Path) -> dict[str, Any]:
    require_tool(COMPOSE)
    program = COMPOSE.command("usr/libexec/docker/cli-plugins/docker-compose")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    options = ("--file", FOLDER / "compose" / name, "config", "--format", "json")
    return dict(json.loads(run(*program, *options, env=environment)))


@pytest.mark.services
def test_the_dockerfile_has_no_known_faults() -> None:
    require_tool(HADOLINT)
    run(HADOLINT.directory / "bin" / "hadolint", FOLDER / "docker" / "Dockerfile")


def test_the_image_holds_what_the_build_needs() -> None:
    """What the Dockerfile copies is there and not ignored."""
    lines = (FOLDER / "docker" / "Dockerfile").read_text().splitlines()
    ignored = (FOLDER / "docker" / "Dockerfile.dockerignore").read_text().split()
    copied = [
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert copied
    for source in copied:
        assert (PROJECT / source).exists()
        assert f"!{source}" in ignored


@pytest.mark.services
def test_the_standalone_listens_on_loopback_unless_told(tmp_path: Path) -> None:
    (service,) = composed("standalone.yaml", tmp_path)["services"].values()
    (port,) = service["ports"]
    assert port["host_ip"] == "127.0.0.1"
    assert service["read_only"]


@pytest.mark.services
def test_the_composed_cluster_fits_together(tmp_path: Path) -> None:
    cluster = composed("compose.yaml", tmp_path)
    services = cluster["services"]
    config = tmp_path / "elanus.yaml"
    config.write_text(cluster["configs"]["elanus"]["content"])
    roles = {name: name.rpartition("-")[0] for name in services if name[-1].isdigit()}
    assert set(roles.values()) == set(ROLES)
    for name, role in roles.items():
        service = services[name]
        assert service["command"][:2] == ["run", role]
        settings = load_settings(config, service["environment"], {})
        assert settings.cluster.advertise_host == name == service["hostname"]
        assert settings.mq.type == "woodpecker"
        assert service["stop_grace_period"] == "1m30s"
        assert "ports" not in service
    servers = cluster["configs"]["servers"]["content"]
    assert all(
        f"server {name}:19530 " in servers for name, role in roles.items() if role == "proxy"
    )
    for volume in services["nginx"]["volumes"]:
        assert Path(volume["source"]).is_file()
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert [port["host_ip"] for port in published] == ["127.0.0.1"]


def test_the_wheel_runs_where_nothing_else_is_of_ours(tmp_path: Path) -> None:
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--wheel-dir", tmp_path, "."),
        cwd=PROJECT,
    )
    (wheel,) = tmp_path.glob("elanus-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, "--disable-pip-version-check", "--no-deps", wheel)
    # The libraries are this environment's: to install them again would take a minute.
    folder = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    here = run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    (Path(folder) / "libraries.pth").write_text(here)
    elanus = tmp_path / "venv" / "bin" / "elanus"
    assert run(elanus, "version", cwd=tmp_path).strip() == VERSION
    where = run(python, "-c", "import elanus; print(elanus.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path)
    assert yaml.safe_load(run(elanus, "config", cwd=tmp_path))["proxy"]["host"] == "127.0.0.1"
