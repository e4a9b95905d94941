"""``elanus cluster``: a cluster on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from elanus.cli.options import (
    ConfigOption,
    JsonOption,
    SetOption,
    assignments,
    exit_now,
    fail,
    load,
)

cluster_app = typer.Typer(
    help="A cluster on this machine, for development and tests.", no_args_is_help=True
)

ClusterDirOption = Annotated[Path, typer.Option("--data-dir", help="Directory of the cluster.")]
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

    assigned = assignments(settings)
    before = load(config, dict(assigned))
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
    exit_now(
        run_cluster(lambda flags: load(config, flags), given, data_dir, counts, config, wanted)
    )


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
        fail(error.message)
