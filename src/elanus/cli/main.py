"""The command line. Each command is a thin shell; heavy imports wait until one is called."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from elanus.config.describe import as_yaml
from elanus.config.loading import ConfigError, load_settings
from elanus.config.settings import Settings
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
cluster_app = typer.Typer(
    help="A cluster on this machine, for development and tests.", no_args_is_help=True
)
app.add_typer(cluster_app, name="cluster")

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
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Data directory [default: ./elanus-data].")
]


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
    flags: dict[str, Any] = _assignments(settings)
    if data_dir is not None:
        flags["localStorage.path"] = str(data_dir)
    if host is not None:
        flags["proxy.host"] = host
    if port is not None:
        flags["proxy.port"] = port
    chosen = _load(config, flags)
    from elanus.cli.serve import serve_standalone

    _exit(serve_standalone(chosen, sample=sample))


@run_app.command("proxy")
def run_proxy(
    data_dir: DataDirOption = None,
    host: Annotated[str | None, typer.Option(help="Address [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="gRPC and REST port [default: 19530].")] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
) -> None:
    """A proxy of a cluster: what clients talk to. Any number may run."""
    flags: dict[str, Any] = _assignments(settings)
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
    _run_role("coordinator", data_dir, config, _assignments(settings))


@run_app.command("streaming")
def run_streaming(
    data_dir: DataDirOption = None, config: ConfigOption = None, settings: SetOption = None
) -> None:
    """A streaming node of a cluster: owns logs and growing data."""
    _run_role("streaming", data_dir, config, _assignments(settings))


@run_app.command("query")
def run_query(
    data_dir: DataDirOption = None, config: ConfigOption = None, settings: SetOption = None
) -> None:
    """A query node of a cluster: holds and searches sealed segments."""
    _run_role("query", data_dir, config, _assignments(settings))


@run_app.command("data")
def run_data(
    data_dir: DataDirOption = None, config: ConfigOption = None, settings: SetOption = None
) -> None:
    """A data node of a cluster: compacts and builds indexes."""
    _run_role("data", data_dir, config, _assignments(settings))


def _run_role(name: str, data_dir: Path | None, config: Path | None, flags: dict[str, Any]) -> None:
    if data_dir is not None:
        flags["localStorage.path"] = str(data_dir)
    chosen = _load(config, flags)
    private = {
        "metastore.type": chosen.metastore.type == "sqlite",
        "common.storageType": chosen.common.storage_type == "local"
        and not chosen.local_storage.shared_path,
        "mq.type": chosen.mq.type == "local",
    }
    if any(private.values()):
        keys = ", ".join(key for key, is_private in private.items() if is_private)
        _fail(
            f"the roles of a cluster share their storage, but {keys} names a private one: choose "
            "metastore.type=etcd, common.storageType=remote, and mq.type=woodpecker, kafka or "
            "pulsar; or `elanus run standalone`"
        )
    from elanus.cli.serve import serve_role

    _exit(serve_role(chosen, name))


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # The object store's native threads can abort during interpreter shutdown; all is closed here.
    os._exit(code)


ClusterDirOption = Annotated[Path, typer.Option("--data-dir", help="Directory of the cluster.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
DEFAULT_CLUSTER_DIR = Path("elanus-cluster")


@cluster_app.command("up")
def cluster_up(
    proxies: Annotated[int, typer.Option(min=1, help="Number of proxies.")] = 1,
    coordinators: Annotated[int, typer.Option(min=1, help="Number of coordinators.")] = 1,
    streaming: Annotated[int, typer.Option(min=1, help="Number of streaming nodes.")] = 1,
    query: Annotated[int, typer.Option(min=1, help="Number of query nodes.")] = 1,
    data: Annotated[int, typer.Option(min=1, help="Number of data nodes.")] = 1,
    etcd: Annotated[
        str, typer.Option(help="Addresses of etcd, host:port,… [default: one of its own]")
    ] = "",
    objects: Annotated[
        str,
        typer.Option(
            help="Address of the S3 store, host:port [default: a MinIO of its own, or without "
            "MinIO a directory that the processes share]"
        ),
    ] = "",
    wal: Annotated[
        str,
        typer.Option(help="woodpecker, kafka://host:port,… or pulsar://host:port."),
    ] = "woodpecker",
    data_dir: ClusterDirOption = DEFAULT_CLUSTER_DIR,
    port: Annotated[
        int,
        typer.Option(
            help="Port for clients: of nginx, or without nginx shared by all proxies, over which "
            "the system spreads connections."
        ),
    ] = 19530,
    etcd_program: Annotated[
        str, typer.Option(help="The etcd to start [default: etcd of the PATH]")
    ] = "",
    minio_program: Annotated[
        str, typer.Option(help="The MinIO to start [default: minio of the PATH]")
    ] = "",
    nginx_program: Annotated[
        str, typer.Option(help="The nginx to start [default: nginx of the PATH]")
    ] = "",
    certificates: Annotated[
        Path | None,
        typer.Option(
            help="Directory with server.pem, server.key and ca.pem, for a name that "
            "internaltls.sni says: the roles speak TLS with each other."
        ),
    ] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
) -> None:
    """Start a cluster and keep its processes alive until Ctrl-C.

    What it stands on is started, too, unless it is named: etcd for the metadata, MinIO (or a shared
    directory) for the objects, and nginx before the proxies if there is one. Data, logs and the
    supervisor's socket are in --data-dir; the other commands of `elanus cluster` find the cluster
    there.
    """
    from elanus.cli.cluster import certificate_settings, cluster_settings, run_cluster
    from elanus.roles.cluster.foundation import Wanted

    assigned = _assignments(settings)
    before = _load(config, dict(assigned))
    given = {
        **cluster_settings(etcd=etcd, objects=objects, wal=wal, port=port),
        **({} if certificates is None else certificate_settings(certificates)),
        **assigned,
    }
    wanted = Wanted(
        etcd=not etcd and before.metastore.type != "etcd",
        objects=not objects
        and before.common.storage_type != "remote"
        and not before.local_storage.shared_path,
        etcd_program=etcd_program,
        minio_program=minio_program,
        nginx_program=nginx_program,
    )
    counts = {
        "proxy": proxies,
        "coordinator": coordinators,
        "streaming": streaming,
        "query": query,
        "data": data,
    }
    _exit(run_cluster(lambda flags: _load(config, flags), given, data_dir, counts, config, wanted))


@cluster_app.command("status")
def cluster_status(
    data_dir: ClusterDirOption = DEFAULT_CLUSTER_DIR, as_json: JsonOption = False
) -> None:
    """Each process with its role, pid, address, state, term and what it owns."""
    from elanus.cli.cluster import show_cluster

    _do(lambda: show_cluster(data_dir, as_json=as_json))


@cluster_app.command("kill")
def cluster_kill(name: str, data_dir: ClusterDirOption = DEFAULT_CLUSTER_DIR) -> None:
    """kill -9 a process, for example streaming-1; it is started again."""
    _command(data_dir, {"do": "kill", "name": name})


@cluster_app.command("add")
def cluster_add(role: str, data_dir: ClusterDirOption = DEFAULT_CLUSTER_DIR) -> None:
    """Start one more process of a role: proxy, coordinator, streaming, query or data."""
    _command(data_dir, {"do": "add", "role": role})


@cluster_app.command("restart")
def cluster_restart(name: str, data_dir: ClusterDirOption = DEFAULT_CLUSTER_DIR) -> None:
    """Have a process hand over what it owns and end, and start it again; returns when it serves."""
    _command(data_dir, {"do": "restart", "name": name})


@cluster_app.command("drain")
def cluster_drain(name: str, data_dir: ClusterDirOption = DEFAULT_CLUSTER_DIR) -> None:
    """Have a process hand over what it owns and end; returns when it has."""
    _command(data_dir, {"do": "drain", "name": name})


@cluster_app.command("down")
def cluster_down(data_dir: ClusterDirOption = DEFAULT_CLUSTER_DIR) -> None:
    """Stop the whole cluster."""
    _command(data_dir, {"do": "stop"})


def _command(data_dir: Path, request: dict[str, Any]) -> None:
    from elanus.cli.cluster import command

    _do(lambda: typer.echo(" ".join(f"{k}={v}" for k, v in command(data_dir, request).items())))


def _do(step: Callable[[], None]) -> None:
    from elanus.errors import ElanusError

    try:
        step()
    except ElanusError as error:
        _fail(error.message)


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
