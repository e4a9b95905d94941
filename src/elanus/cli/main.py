"""The command line. Each command is a thin shell; heavy imports wait until one is called."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from elanus.cli.cluster_commands import cluster_app
from elanus.cli.options import (
    DEFAULT_URI,
    ConfigOption,
    DataDirOption,
    JsonOption,
    SetOption,
    UriOption,
    assignments,
    exit_now,
    fail,
    load,
)
from elanus.config.describe import as_yaml
from elanus.runtime.garbage import without_collections
from elanus.version import VERSION

# A child that is forked from a process in which gRPC runs begins with gRPC's threads, and may crash
# by them before it becomes another program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

app = typer.Typer(
    help="Elanus: a vector database that speaks Milvus's protocol.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run_app = typer.Typer(help="Run a server in this process.", no_args_is_help=True)
app.add_typer(run_app, name="run")
app.add_typer(cluster_app, name="cluster")


@run_app.command("standalone")
def run_standalone(
    data_dir: DataDirOption = None,
    host: Annotated[str | None, typer.Option(help="Address [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="gRPC and REST port [default: 19530].")] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    sample: Annotated[
        bool,
        typer.Option("--sample/--no-sample", help="Load the sample words into an empty store."),
    ] = False,
) -> None:
    """All roles in one process, on one directory, until Ctrl-C."""
    flags: dict[str, Any] = assignments(settings)
    if data_dir is not None:
        flags["localStorage.path"] = str(data_dir)
    if host is not None:
        flags["proxy.host"] = host
    if port is not None:
        flags["proxy.port"] = port
    chosen = load(config, flags)
    with without_collections():
        from elanus.cli.serve import serve_standalone

    exit_now(serve_standalone(chosen, sample=sample))


@run_app.command("proxy")
def run_proxy(
    data_dir: DataDirOption = None,
    host: Annotated[str | None, typer.Option(help="Address [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="gRPC and REST port [default: 19530].")] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
) -> None:
    """A proxy of a cluster: what clients talk to. Any number may run."""
    flags: dict[str, Any] = assignments(settings)
    if host is not None:
        flags["proxy.host"] = host
    if port is not None:
        flags["proxy.port"] = port
    _run_role("proxy", data_dir, config, flags)


@run_app.command("coordinator")
def run_coordinator(
    data_dir: DataDirOption = None, config: ConfigOption = None, settings: SetOption = None
) -> None:
    """A coordinator of a cluster. One leads, others stand by."""
    _run_role("coordinator", data_dir, config, assignments(settings))


@run_app.command("streaming")
def run_streaming(
    data_dir: DataDirOption = None, config: ConfigOption = None, settings: SetOption = None
) -> None:
    """A streaming node of a cluster: owns logs and growing data."""
    _run_role("streaming", data_dir, config, assignments(settings))


@run_app.command("query")
def run_query(
    data_dir: DataDirOption = None, config: ConfigOption = None, settings: SetOption = None
) -> None:
    """A query node of a cluster: holds and searches sealed segments."""
    _run_role("query", data_dir, config, assignments(settings))


@run_app.command("data")
def run_data(
    data_dir: DataDirOption = None, config: ConfigOption = None, settings: SetOption = None
) -> None:
    """A data node of a cluster: compacts and builds indexes."""
    _run_role("data", data_dir, config, assignments(settings))


def _run_role(name: str, data_dir: Path | None, config: Path | None, flags: dict[str, Any]) -> None:
    if data_dir is not None:
        flags["localStorage.path"] = str(data_dir)
    chosen = load(config, flags)
    private = {
        "metastore.type": chosen.metastore.type == "sqlite",
        "common.storageType": chosen.common.storage_type == "local"
        and not chosen.local_storage.shared_path,
        "mq.type": chosen.mq.type == "local",
    }
    if any(private.values()):
        keys = ", ".join(key for key, is_private in private.items() if is_private)
        fail(
            f"the roles of a cluster share their storage, but {keys} names a private one: choose "
            "metastore.type=etcd, common.storageType=remote, and mq.type=woodpecker, kafka or "
            "pulsar; or `elanus run standalone`"
        )
    with without_collections():
        from elanus.cli.serve import serve_role

    exit_now(serve_role(chosen, name))


@app.command()
def demo(
    uri: UriOption = DEFAULT_URI,
    if_empty: Annotated[
        bool, typer.Option("--if-empty", help="Do nothing if the server has collections.")
    ] = False,
) -> None:
    """Load the sample words into a running server and search them."""
    from rich.console import Console

    from elanus.cli.demo import run_demo
    from elanus.cli.rest_client import ServerError

    try:
        run_demo(uri, Console(), only_if_empty=if_empty)
    except ServerError as error:
        fail(str(error))


@app.command()
def status(
    uri: UriOption = DEFAULT_URI,
    as_json: JsonOption = False,
) -> None:
    """What a running server holds: collections, rows, load and index states."""
    from elanus.cli.rest_client import ServerError
    from elanus.cli.status import show_status

    try:
        show_status(uri, as_json=as_json)
    except ServerError as error:
        fail(str(error))


@app.command()
def migrate(
    source: Annotated[
        Path | None, typer.Option("--from", help="Settings file of the storage to copy.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--to", help="Settings file of the storage to copy to.")
    ] = None,
    source_settings: Annotated[
        list[str] | None,
        typer.Option("--from-set", metavar="KEY=VALUE", help="A setting of the source."),
    ] = None,
    target_settings: Annotated[
        list[str] | None,
        typer.Option("--to-set", metavar="KEY=VALUE", help="A setting of the target."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="A standalone's directory: the source, or the target if --from is given."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be copied, and change nothing.")
    ] = False,
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Compare a finished copy with its source.")
    ] = False,
) -> None:
    """Copy all data from one storage to another, for example from a directory to a cluster."""
    if dry_run and verify_only:
        fail("--dry-run and --verify-only exclude each other")
    sides = [assignments(source_settings, "--from-set"), assignments(target_settings, "--to-set")]
    if data_dir is not None:
        sides[0 if source is None else 1]["localStorage.path"] = str(data_dir)
    for flags, path, option in ((sides[0], source, "--from"), (sides[1], target, "--to")):
        if path is None and not flags:
            fail(f"migrate needs {option}, {option}-set or --data-dir: which storage is it?")
    # A variable of the environment could not say which of the two it means.
    old, new = (load(path, flags, {}) for path, flags in zip((source, target), sides, strict=True))
    from elanus.cli.migrate import migrate as run_migration

    exit_now(run_migration(old, new, dry_run=dry_run, verify_only=verify_only))


@app.command("config")
def show_config(config: ConfigOption = None, settings: SetOption = None) -> None:
    """The settings in effect, with their documentation, as an elanus.yaml."""
    typer.echo(as_yaml(load(config, assignments(settings))), nl=False)


@app.command()
def version() -> None:
    """The version of Elanus."""
    typer.echo(VERSION)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
