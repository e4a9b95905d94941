"""``elanus migrate``, with a real server before and after."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests import migration
from tests.backends import COMBINATIONS, Combination, servers_of, settings_of
from tests.migration import migrate, migrate_directory, observe, settings_file
from tests.server import RunningServer

from elanus.cli.rest_client import RestClient

SETTINGS = migration.SERVER_SETTINGS
FAILPOINTS = sorted(
    {
        name
        for path in (Path(__file__).parents[2] / "src/elanus/roles/migration").glob("*.py")
        for name in re.findall(r'hit\("([a-z_.]+)"\)', path.read_text(encoding="utf-8"))
    }
    | {
        "meta.transact.before_commit@3",
        "meta.transact.after_commit@4",
        "objects.put.before_write@2",
        "objects.put.after_write@5",
        "wal.append.before_write",
        "wal.append.before_sync@2",
        "wal.append.after_sync",
    }
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The directory of a server that was killed, and what users saw of it."""
    directory = tmp_path_factory.mktemp("prepared") / "data"
    with RunningServer(directory, SETTINGS) as server:
        migration.populate(server)
        seen = observe(server.uri)
        server.kill()
    things = seen["default/things"]
    assert len(things["rows"]) == migration.FLUSHED_ROWS + migration.GROWING_ROWS - 5
    assert things["description"]["aliases"] == ["stuff"]
    logs = {path.parent.name for path in (directory / "wal").glob("*/*.wal")}
    assert logs == {f"here-rootcoord-dml_{n}" for n in range(3)}
    return directory, seen


@pytest.fixture
def source(prepared: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared[0], tmp_path / "source"))


def what_is_seen(directory: Path, settings: dict[str, object] | None = None) -> dict[str, Any]:
    with RunningServer(directory, {**SETTINGS, **(settings or {})}) as server:
        return observe(server.uri)


def content_of(directory: Path) -> dict[str, bytes]:
    """All files but the lock and SQLite's, whose bytes change when they are opened."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock" and not path.name.startswith("metadata.db")
    }


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_a_cluster_moves_and_comes_back_as_it_was(
    combination: Combination,
    prepared: tuple[Path, dict[str, Any]],
    source: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    servers = servers_of(combination, request)
    settings = settings_of(combination, servers, f"m{uuid4().hex[:8]}")
    settings["localStorage.path"] = str(tmp_path / "there")
    settings["msgChannel.chanNamePrefix.cluster"] = "here"  # topics keep their names
    file = settings_file(tmp_path / "there.yaml", settings)
    before = content_of(source)
    there = migrate("--data-dir", source, "--to", file)
    assert there.returncode == 0, there.stderr
    assert content_of(source) == before
    verified = migrate("--data-dir", source, "--to", file, "--verify-only")
    assert verified.returncode == 0, verified.stderr
    assert "all equal" in verified.stdout
    with RunningServer(tmp_path / "there", {**SETTINGS, **settings}) as server:
        assert observe(server.uri) == prepared[1]
        client = RestClient(server.uri)
        migration.insert(client, "things", migration.rows(20_000, 50, seed=6))
        migration.delete(client, "things", "id == 20007")
        client.close()
        seen = observe(server.uri)
    back = migrate("--from", file, "--data-dir", tmp_path / "back")
    assert back.returncode == 0, back.stderr
    assert what_is_seen(tmp_path / "back") == seen
    assert what_is_seen(source) == prepared[1]


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_migration_that_was_killed_anywhere_goes_on(
    failpoint: str, source: Path, tmp_path: Path
) -> None:
    name, _, hit = failpoint.partition("@")
    target = tmp_path / "target"
    killed = migrate_directory(source, target, failpoints=f"{name}=kill@{hit or 1}")
    assert killed.returncode == -9, killed.stderr
    again = migrate_directory(source, target)
    if name == "migrate.after_complete":
        assert "the target already is cluster" in again.stderr
    else:
        assert again.returncode == 0, again.stderr
    assert objects_of(target) == objects_of(source)


def objects_of(directory: Path) -> dict[str, bytes]:
    return {
        name: content
        for name, content in content_of(directory).items()
        if name.startswith("objects/")
    }


def test_a_half_migrated_target_is_not_served_and_a_finished_one_is_as_the_source(
    prepared: tuple[Path, dict[str, Any]], source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    for failpoint in (
        "migrate.after_claim=kill",
        "migrate.after_object=kill@3",
        "migrate.after_append=kill",
        "migrate.after_log_finished=kill",
        "migrate.before_log_finished=kill",
        "migrate.before_complete=kill",
    ):
        assert migrate_directory(source, target, failpoints=failpoint).returncode == -9
        server = RunningServer(target, SETTINGS)
        with pytest.raises(RuntimeError, match="unfinished migration of cluster"):
            server.start()
    assert migrate_directory(source, target).returncode == 0
    assert what_is_seen(target) == prepared[1]


def test_a_source_that_was_used_between_two_attempts_is_copied_as_it_is_now(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    first = migrate_directory(source, target, failpoints="migrate.before_complete=kill")
    assert first.returncode == -9
    with RunningServer(source, SETTINGS) as server:
        client = RestClient(server.uri)
        migration.delete(client, "things", "id < 50")
        migration.insert(client, "things", migration.rows(30_000, 40, seed=7))
        client.call("collections/drop", {"dbName": "second", "collectionName": "small"})
        client.close()
        seen = observe(server.uri)
    second = migrate_directory(source, target)
    assert second.returncode == 0, second.stderr
    assert what_is_seen(target) == seen


def test_a_served_source_is_refused_with_its_server(source: Path, tmp_path: Path) -> None:
    with RunningServer(source, SETTINGS) as server:
        assert server.process is not None
        refused = migrate_directory(source, tmp_path / "target")
        assert refused.returncode == 1
        assert f"in use by process {server.process.pid}" in refused.stderr
    assert not (tmp_path / "target").exists()


def damaged_files(source: Path) -> Iterator[Path]:
    """A column, an index and a manifest."""
    for pattern in ("insert_log/**/*.npy", "index_files/**/*.faiss", "insert_log/**/manifest.json"):
        yield next((source / "objects").glob(pattern))


def test_a_damaged_object_of_the_source_is_named(source: Path, tmp_path: Path) -> None:
    for number, path in enumerate(damaged_files(source)):
        target = tmp_path / f"target-{number}"
        whole = path.read_bytes()
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        refused = migrate_directory(source, target)
        assert refused.returncode == 1
        assert str(path.relative_to(source / "objects")) in refused.stderr
        assert "the source is untouched" in refused.stderr
        path.unlink()
        refused = migrate_directory(source, target)
        assert str(path.relative_to(source / "objects")) in refused.stderr
        assert "missing" in refused.stderr
        path.write_bytes(whole)
        assert migrate_directory(source, target).returncode == 0


def test_a_damaged_copy_is_noticed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert migrate_directory(source, target).returncode == 0
    for path in damaged_files(target):
        whole = path.read_bytes()
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        noticed = migrate_directory(source, target, "--verify-only")
        assert noticed.returncode == 1
        assert f"object {path.relative_to(target / 'objects')} of the target" in noticed.stderr
        path.write_bytes(whole)
    log = max((target / "wal").rglob("*.wal"), key=lambda path: path.stat().st_size)
    log.write_bytes(log.read_bytes()[:-1_000])
    noticed = migrate_directory(source, target, "--verify-only")
    assert noticed.returncode == 1
    assert f"log {log.parent.name} differs" in noticed.stderr


def test_a_target_that_holds_anything_else_is_refused(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with RunningServer(other, SETTINGS):
        pass
    refused = migrate_directory(source, other)
    assert refused.returncode == 1
    assert "the target is not empty: its metadata belongs to cluster" in refused.stderr
    half = tmp_path / "half"
    killed = migrate_directory(other, half, failpoints="migrate.after_claim=kill")
    assert killed.returncode == -9
    refused = migrate_directory(source, half)
    assert refused.returncode == 1
    assert "choose an empty one" in refused.stderr
    strangers = tmp_path / "strangers"
    (strangers / "objects").mkdir(parents=True)
    (strangers / "objects" / "photo").write_bytes(b"mine")
    refused = migrate_directory(source, strangers)
    assert refused.returncode == 1
    assert "holds data" in refused.stderr
    assert (strangers / "objects" / "photo").read_bytes() == b"mine"


def test_a_dry_run_tells_what_there_is_and_changes_nothing(source: Path, tmp_path: Path) -> None:
    before = content_of(source)
    told = migrate_directory(source, tmp_path / "target", "--dry-run")
    assert told.returncode == 0, told.stderr
    assert re.search(r"objects +\d+ objects", told.stdout)
    assert re.search(r"log +\d+ records of 3 logs", told.stdout)
    assert not (tmp_path / "target").exists()
    assert content_of(source) == before


def test_a_source_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    refused = migrate_directory(tmp_path / "nowhere", tmp_path / "target")
    assert refused.returncode == 1
    assert "nowhere does not exist" in refused.stderr
    assert not (tmp_path / "nowhere").exists()
    refused = migrate_directory(tmp_path, tmp_path)
    assert "the target needs a directory of its own" in refused.stderr
