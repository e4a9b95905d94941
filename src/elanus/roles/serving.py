"""The ports of a process: the public one, and the one for its operator."""

from elanus.access.dispatch import Dispatcher
from elanus.config.settings import MetricsSettings, Settings
from elanus.observability.health import Health, ManagementApp
from elanus.observability.metrics import Metrics
from elanus.roles.tls import public_tls
from elanus.runtime.world import World
from elanus.transport.base import AsgiApp, TransportOptions, TransportServer, no_grpc
from elanus.transport.h2corn_server import H2cornServer


def public_server(
    world: World, settings: Settings, dispatcher: Dispatcher, rest: AsgiApp
) -> TransportServer:
    """The server that ``proxy.transport`` names, not started yet."""
    proxy = settings.proxy
    options = TransportOptions(
        host=proxy.host,
        port=proxy.port,
        rest_port=proxy.rest_port,
        reuse_port=proxy.reuse_port,
        max_receive_bytes=proxy.grpc.server_max_recv_size,
        max_send_bytes=proxy.grpc.server_max_send_size,
        tls=public_tls(settings),
    )
    if proxy.transport == "grpcio":
        from elanus.transport.grpcio_server import GrpcioServer  # a tenth of a second

        return GrpcioServer(dispatcher.handle, rest, options)
    return H2cornServer(dispatcher.handle, rest, options, world.executor)


def management_server(
    world: World, settings: MetricsSettings, health: Health, metrics: Metrics
) -> TransportServer:
    """Metrics and health, not started yet; always in clear text, so it offers nothing else."""
    options = TransportOptions(host=settings.host, port=settings.port)
    return H2cornServer(no_grpc, ManagementApp(health, metrics), options, world.executor)
