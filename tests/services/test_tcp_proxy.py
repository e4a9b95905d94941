"""The proxy copies faithfully, and cuts, holes and delays do what their names say."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator

import pytest

from tests.services.loop_thread import LoopThread
from tests.services.ports import free_port
from tests.services.tcp_proxy import TcpProxy

TIMEOUT_S = 10.0
SILENCE_S = 0.2


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    thread = LoopThread("echo")
    server = thread.run(asyncio.start_server(echo, "127.0.0.1", 0))
    with TcpProxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as proxy:
        yield proxy
    thread.loop.call_soon_threadsafe(server.close)
    thread.close()


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=TIMEOUT_S)


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return receive(connection, len(data))


def receive(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            break
        parts += part
    return bytes(parts)


def test_bytes_come_through_unchanged_and_so_does_the_end(proxy: TcpProxy) -> None:
    data = os.urandom(3_000_000)
    with connect(proxy) as connection:
        reader = LoopThread("reader")
        received = asyncio.run_coroutine_threadsafe(
            asyncio.to_thread(receive, connection, len(data)), reader.loop
        )
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert received.result(TIMEOUT_S) == data
        assert connection.recv(1) == b""
        reader.close()


def test_a_cut_resets_connections_and_refuses_new_ones_until_healed(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"before") == b"before"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as connection:
        assert ask(connection, b"after") == b"after"


def test_reset_connections_leaves_the_door_open(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"before") == b"before"
        proxy.reset_connections()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with connect(proxy) as connection:
        assert ask(connection, b"after") == b"after"


def test_a_black_hole_is_silent_and_gives_back_what_it_held(proxy: TcpProxy) -> None:
    with connect(proxy) as old:
        assert ask(old, b"before") == b"before"
        proxy.blackhole()
        old.sendall(b"held")
        with connect(proxy) as new:
            new.sendall(b"new")
            for connection in (old, new):
                connection.settimeout(SILENCE_S)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(TIMEOUT_S)
            proxy.heal()
            assert receive(old, 4) == b"held"
            assert receive(new, 3) == b"new"


def test_a_delay_holds_data_back_in_each_direction(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"before") == b"before"
        proxy.delay(200)
        started = time.monotonic()
        assert ask(connection, b"later") == b"later"
        assert time.monotonic() - started >= 0.4
        proxy.heal()
        assert ask(connection, b"again") == b"again"


def test_delayed_data_keeps_its_order(proxy: TcpProxy) -> None:
    data = os.urandom(400_000)
    proxy.delay(20)
    with connect(proxy) as connection:
        assert ask(connection, data) == data


def ask_once(proxy: TcpProxy) -> bytes:
    with connect(proxy) as connection:
        return connection.recv(1)


def test_connections_to_a_server_that_is_down_are_reset() -> None:
    with TcpProxy(f"127.0.0.1:{free_port()}") as proxy, pytest.raises(ConnectionResetError):
        ask_once(proxy)
