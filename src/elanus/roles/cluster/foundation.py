"""What a cluster on one machine has to start before its own processes, and what they are told of
it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elanus.config.settings import Settings
from elanus.roles.cluster import programs
from elanus.roles.cluster.balancer import Balancer, nginx_program
from elanus.roles.cluster.programs import Program, Programs
from elanus.runtime.world import World


@dataclass(frozen=True)
class Wanted:
    """``etcd``, ``objects``: whether the cluster needs ones of its own. The programs to start, by
    default those of the PATH."""

    etcd: bool = False
    objects: bool = False
    etcd_program: str = ""
    minio_program: str = ""
    nginx_program: str = ""


@dataclass
class Foundation:
    """``settings`` and ``environment`` are for all processes of the cluster."""

    programs: Programs
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    balancer: Balancer | None = None


async def lay_foundation(
    world: World, directory: Path, wanted: Wanted, settings: Settings
) -> Foundation:
    """Starts what is wanted and waits until it is ready. Raises InvalidParameter if a program is
    missing, Unavailable if one doesn't start; then ``programs.stop`` is left to be called."""
    foundation = Foundation(Programs(world, directory))
    started: list[Program] = []
    if wanted.etcd:
        etcd = programs.etcd_program(directory, wanted.etcd_program)
        started.append(etcd)
        foundation.settings |= {"metastore.type": "etcd", "etcd.endpoints": etcd.address}
    if wanted.objects:
        store = programs.objects_program(directory, wanted.minio_program)
        if store is None:
            shared = directory / "objects"
            foundation.settings |= {
                "common.storageType": "local",
                "localStorage.sharedPath": str(shared),
            }
        else:
            started.append(store)
            foundation.settings |= programs.object_settings(store)
            foundation.environment |= programs.secret_environment(store)
    proxy = settings.proxy
    nginx = nginx_program(directory, proxy.host, proxy.port, wanted.nginx_program)
    # It would speak clear text on both sides: proxies that show certificates share the port.
    if nginx is not None and not settings.common.security.tls_mode:
        started.append(nginx)
        foundation.balancer = Balancer(directory, foundation.programs)
    try:
        await foundation.programs.start(started)
    except BaseException:
        await foundation.programs.stop()
        raise
    return foundation
