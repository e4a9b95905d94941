"""All servers, in the order in which their installations should begin: the slowest first."""

from collections.abc import Sequence
from typing import TypeVar

from tests.services.azurite import Azurite
from tests.services.base import Service
from tests.services.etcd import Etcd
from tests.services.kafka import Kafka
from tests.services.minio import MinioServer
from tests.services.moto import Moto
from tests.services.nginx import Nginx
from tests.services.pulsar import Pulsar
from tests.services.seaweedfs import SeaweedFS
from tests.services.tools import TOOLS, Tool

SERVICES: tuple[type[Service], ...] = (
    MinioServer,
    Azurite,
    Etcd,
    Pulsar,
    Kafka,
    SeaweedFS,
    Moto,
)


INSTALLABLE: tuple[type[Service] | Tool, ...] = (*SERVICES, Nginx, *TOOLS)
"""What tests need beside them: a balancer that has no use without servers, and programs."""

T = TypeVar("T", bound=type[Service] | Tool)


def named(names: list[str], among: Sequence[T]) -> list[T]:
    """Those of these names, or all if there are none."""
    known = {one.name: one for one in among}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"nothing is named {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(among)
