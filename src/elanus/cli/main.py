"""The command line. Each command is a thin shell; heavy imports wait until one is called."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from elanus.config.describe import as_yaml
from elanus.config.loading import ConfigError, load_settings
from elanus.config.settings import Settings
from elanus.version import VERSION

app = typer.Typer(
    help="Elanus: a vector database that speaks Milvus's protocol.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run_app = typer.Typer(help="Run a server in this process.", no_args_is_help=True)
app.add_typer(run_app, name="run")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="ELANUS_CONFIG", help="Settings file (elanus.yaml)."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, for example log.level=debug."),
]
UriOption = Annotated[str, typer.Option("--uri", help="Address of the server.")]
DEFAULT_URI = "http://127.0.0.1:19530"


@run_app.command("standalone")
def run_standalone(
    data_dir: Annotated[
        Path | None, typer.Option(help="Data directory [default: ./elanus-data].")
    ] = None,
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
    flags: dict[str, Any] = _assignments(settings)
    if data_dir is not None:
        flags["localStorage.path"] = str(data_dir)
    if host is not None:
        flags["proxy.host"] = host
    if port is not None:
        flags["proxy.port"] = port
    chosen = _load(config, flags)
    from elanus.cli.serve import serve_standalone

    code = serve_standalone(chosen, sample=sample)
    sys.stdout.flush()
    sys.stderr.flush()
    # The object store's native threads can abort during interpreter shutdown; all is closed here.
    os._exit(code)


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
        _fail(str(error))


@app.command()
def status(
    uri: UriOption = DEFAULT_URI,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """What a running server holds: collections, rows, load and index states."""
    from elanus.cli.rest_client import ServerError
    from elanus.cli.status import show_status

    try:
        show_status(uri, as_json=as_json)
    except ServerError as error:
        _fail(str(error))


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
        _fail("--dry-run and --verify-only exclude each other")
    sides = [_assignments(source_settings, "--from-set"), _assignments(target_settings, "--to-set")]
    if data_dir is not None:
        sides[0 if source is None else 1]["localStorage.path"] = str(data_dir)
    for flags, path, option in ((sides[0], source, "--from"), (sides[1], target, "--to")):
        if path is None and not flags:
            _fail(f"migrate needs {option}, {option}-set or --data-dir: which storage is it?")
    # A variable of the environment could not say which of the two it means.
    old, new = (_load(path, flags, {}) for path, flags in zip((source, target), sides, strict=True))
    from elanus.cli.migrate import migrate as run_migration

    code = run_migration(old, new, dry_run=dry_run, verify_only=verify_only)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as in run standalone


@app.command("config")
def show_config(config: ConfigOption = None, settings: SetOption = None) -> None:
    """The settings in effect, with their documentation, as an elanus.yaml."""
    typer.echo(as_yaml(_load(config, _assignments(settings))), nl=False)


@app.command()
def version() -> None:
    """The version of Elanus."""
    typer.echo(VERSION)


def _assignments(texts: list[str] | None, option: str = "--set") -> dict[str, Any]:
    flags: dict[str, Any] = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator:
            _fail(f"{option} {text}: expected KEY=VALUE, for example {option} log.level=debug")
        flags[key] = yaml.safe_load(value)
    return flags


def _load(
    config: Path | None, flags: dict[str, Any], environment: Mapping[str, str] = os.environ
) -> Settings:
    try:
        return load_settings(config, environment, flags)
    except ConfigError as error:
        _fail(str(error))
        raise AssertionError from error


def _fail(message: str) -> None:
    typer.echo(f"elanus: {message}", err=True)
    raise typer.Exit(2)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
