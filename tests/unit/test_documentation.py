"""The documents name what the code has: metrics, errors, failpoints, commands, packages."""

import inspect
import re
from pathlib import Path

import pytest
import typer.main
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

import elanus.errors
from elanus.access.dql.direct import DirectSearch
from elanus.cli.main import app
from elanus.config.settings import MemorySettings
from elanus.errors import ElanusError
from elanus.observability.metrics import Metrics
from elanus.roles.direct import DirectRouter
from elanus.roles.process import real_world
from elanus.roles.readings import add_readings, add_search_readings, add_storage_readings
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.storage.wal.memory import MemoryWal

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
MAX_LINES = 500


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows_of(document: str) -> list[list[str]]:
    """Cells of all table rows."""
    lines = [line for line in document.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


async def test_every_metric_stands_in_the_operators_table() -> None:
    world = real_world(MemorySettings(), lambda name, error: None)
    try:
        metrics = Metrics()
        add_readings(metrics, world)
        add_storage_readings(metrics, MemoryObjectStore(world), MemoryWal())
        add_search_readings(metrics, DirectSearch(world, DirectRouter(1)))
        defined = names_in(metrics.registry)
    finally:
        world.executor.close()
    assert len(defined) >= 12
    first_cells = {row[0] for row in rows_of(text_of("docs/operations.md"))}
    documented = {
        cell.strip("`") for cell in first_cells if cell.startswith(("`milvus", "`elanus"))
    }
    assert documented == defined


def names_in(registry: CollectorRegistry) -> set[str]:
    families = list(registry.collect())
    assert any(isinstance(family, GaugeMetricFamily) for family in families)
    return {family.name for family in families}


def error_classes() -> list[type[ElanusError]]:
    classes = [found for _, found in inspect.getmembers(elanus.errors, inspect.isclass)]
    return [found for found in classes if issubclass(found, ElanusError)]


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_every_error_stands_in_the_table_with_its_code(error: type[ElanusError]) -> None:
    rows = [row for row in rows_of(text_of("docs/operations.md")) if row[0] == str(error.code)]
    row = next((row for row in rows if f"`{error.__name__}`" in row[1]), None)
    assert row is not None, f"docs/operations.md lacks {error.code} {error.__name__}"
    assert row[2] == ("yes" if error.retriable else "no")


def test_every_failpoint_is_documented_and_exists() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    in_code = set(re.findall(r'\b_?hit\(\s*"([a-z_.]+)"', sources))
    section = text_of("docs/operations.md").split("## Failpoints")[1]
    cells = " ".join(row[1] for row in rows_of(section))
    assert in_code
    assert set(re.findall(r"`([a-z_.]+)`", cells)) == in_code


def test_every_command_stands_in_the_readme() -> None:
    group = typer.main.get_group(app)
    commands = [
        f"{name} {inner}" if inner else name
        for name, command in group.commands.items()
        for inner in getattr(command, "commands", {"": None})
    ]
    assert "run standalone" in commands
    documented = {row[0] for row in rows_of(text_of("README.md"))}
    assert {f"`elanus {command}`" for command in commands} <= documented


def test_every_package_stands_in_the_map() -> None:
    packages = {path.parent.name + "/" for path in (SOURCE / "elanus").glob("*/__init__.py")}
    modules = {path.name for path in (SOURCE / "elanus").glob("*.py")} - {"__init__.py"}
    documented = {row[0] for row in rows_of(text_of("ARCHITECTURE.md"))}
    assert packages
    assert {f"`{name}`" for name in packages | modules} <= documented


@pytest.mark.parametrize(
    "document",
    [ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: path.name,
)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    lost = [
        link
        for link in links
        if not link.startswith(("http:", "https:")) and not (document.parent / link).exists()
    ]
    assert not lost


def test_no_source_file_is_too_long() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long
