"""All servers, in the order in which their installations should begin: the slowest first."""

from tests.services.azurite import Azurite
from tests.services.base import Service
from tests.services.etcd import Etcd
from tests.services.kafka import Kafka
from tests.services.minio import MinioServer
from tests.services.moto import Moto
from tests.services.pulsar import Pulsar
from tests.services.seaweedfs import SeaweedFS

SERVICES: tuple[type[Service], ...] = (
    MinioServer,
    Azurite,
    Etcd,
    Pulsar,
    Kafka,
    SeaweedFS,
    Moto,
)


def services_named(names: list[str]) -> list[type[Service]]:
    """The services of these names, or all if there are none."""
    known = {service.name: service for service in SERVICES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no service named {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] or list(SERVICES)
