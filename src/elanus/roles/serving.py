"""The ports of a process: the public one, and the one for its operator."""

from elanus.access.dispatch import Dispatcher
from elanus.config.settings import MetricsSettings, ProxySettings
from elanus.observability.health import Health, ManagementApp
from elanus.observability.metrics import Metrics
from elanus.runtime.world import World
from elanus.transport.base import AsgiApp, Handler, TransportOptions, TransportServer
from elanus.transport.grpcio_server import GrpcioServer
from elanus.transport.h2corn_server import H2cornServer


def public_server(
    world: World, settings: ProxySettings, dispatcher: Dispatcher, rest: AsgiApp
) -> TransportServer:
    """The server that ``proxy.transport`` names, not started yet."""
    options = TransportOptions(
        host=settings.host,
        port=settings.port,
        rest_port=settings.rest_port,
        reuse_port=settings.reuse_port,
        max_receive_bytes=settings.grpc.server_max_recv_size,
        max_send_bytes=settings.grpc.server_max_send_size,
    )
    if settings.transport == "grpcio":
        return GrpcioServer(dispatcher.handle, rest, options)
    return H2cornServer(dispatcher.handle, rest, options, world.executor)


def management_server(
    world: World, settings: MetricsSettings, handler: Handler, health: Health, metrics: Metrics
) -> TransportServer:
    """Metrics and health, not started yet."""
    options = TransportOptions(host=settings.host, port=settings.port)
    return H2cornServer(handler, ManagementApp(health, metrics), options, world.executor)
