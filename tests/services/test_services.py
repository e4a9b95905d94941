"""Each server starts, does its work, and has kept it when it is killed and started again."""

import asyncio
import base64
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import obstore
import pulsar
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from obstore.exceptions import AlreadyExistsError
from obstore.store import AzureStore, GCSStore, S3Store

from tests.services.azurite import Azurite
from tests.services.base import ServiceError
from tests.services.etcd import Etcd
from tests.services.gcs import GcsStandIn
from tests.services.kafka import Kafka
from tests.services.minio import MinioServer
from tests.services.moto import Moto
from tests.services.pulsar import Pulsar
from tests.services.s3 import S3Service
from tests.services.seaweedfs import SeaweedFS
from tests.services.tcp_proxy import TcpProxy

TIMEOUT_S = 30.0
RACERS = 16

Own = Callable[..., Any]


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def put(etcd: Etcd, key: str, value: str, token: str = "") -> None:
    etcd.call("kv/put", {"key": encoded(key), "value": encoded(value)}, token=token)


def get(etcd: Etcd, key: str, token: str = "") -> str:
    (pair,) = etcd.call("kv/range", {"key": encoded(key)}, token=token)["kvs"]
    return base64.b64decode(pair["value"]).decode()


def s3_store(server: S3Service, bucket: str) -> S3Store:
    options: dict[str, Any] = {"allow_http": server.certificates is None}
    if server.certificates is not None:
        options["root_certificate"] = server.certificates.authority.read_bytes()
    return S3Store(
        bucket,
        endpoint=server.address,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region=server.region,
        client_options=options,
    )


def test_etcd_keeps_its_keys(own_service: Own) -> None:
    etcd = own_service(Etcd)
    put(etcd, "name", "value")
    etcd.kill()
    etcd.start()
    assert get(etcd, "name") == "value"
    etcd.restart()
    assert get(etcd, "name") == "value"


def test_etcd_with_client_certificates_and_a_password(own_service: Own) -> None:
    etcd = own_service(Etcd, mutual_tls=True, root_password="secret")
    put(etcd, "name", "value", etcd.token())
    etcd.kill()
    etcd.start()
    assert get(etcd, "name", etcd.token()) == "value"
    with pytest.raises(ServiceError, match="user name is empty"):
        put(etcd, "name", "stranger")
    trust = etcd.certificates.client_context()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{etcd.address}/health", verify=trust, trust_env=False)


@pytest.mark.parametrize("kind", [MinioServer, SeaweedFS])
def test_an_s3_server_keeps_its_objects(own_service: Own, kind: type[S3Service]) -> None:
    server = own_service(kind)
    server.make_bucket("bucket")
    store = s3_store(server, "bucket")
    obstore.put(store, "a/b", b"kept")
    server.kill()
    server.start()
    assert bytes(obstore.get(store, "a/b").bytes()) == b"kept"


def test_minio_with_tls(own_service: Own) -> None:
    server = own_service(MinioServer, tls=True)
    server.make_bucket("bucket")
    store = s3_store(server, "bucket")
    obstore.put(store, "name", b"secret")
    assert bytes(obstore.get(store, "name").bytes()) == b"secret"


async def test_s3_servers_let_one_of_many_creators_win(
    minio: MinioServer, seaweedfs: SeaweedFS, moto: Moto
) -> None:
    async def create(store: S3Store, name: bytes) -> bytes | None:
        try:
            await obstore.put_async(store, "contested", name, mode="create")
        except AlreadyExistsError:
            return None
        return name

    for server in (minio, seaweedfs, moto):
        await asyncio.to_thread(server.make_bucket, "race")
        stores = [s3_store(server, "race") for _ in range(RACERS)]
        racers = [create(store, b"%d" % number) for number, store in enumerate(stores)]
        winners = [name for name in await asyncio.gather(*racers) if name is not None]
        assert winners == [bytes(obstore.get(stores[0], "contested").bytes())], server.name


def test_azurite_keeps_its_blobs_and_refuses_to_create_twice(own_service: Own) -> None:
    azurite = own_service(Azurite)
    azurite.make_container("container")
    store = AzureStore(
        "container",
        endpoint=azurite.address,
        account_name=azurite.account,
        account_key=azurite.account_key,
        client_options={"allow_http": True},
    )
    obstore.put(store, "a/b", b"kept", mode="create")
    azurite.restart()
    assert bytes(obstore.get(store, "a/b").bytes()) == b"kept"
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a/b", b"second", mode="create")


def test_the_stand_in_for_gcs_stores_lists_and_refuses_to_create_twice(gcs: GcsStandIn) -> None:
    gcs.make_bucket("gcs")
    key, options = gcs.service_account_key, {"allow_http": True}
    store = GCSStore("gcs", service_account_key=key, client_options=options)
    obstore.put(store, "a b/ü", b"first", mode="create")
    obstore.put(store, "big", b"x" * 12_000_000)
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "a b/ü", b"second", mode="create")
    assert bytes(obstore.get_range(store, "a b/ü", start=1, length=2)) == b"ir"
    assert [item["path"] for item in obstore.list(store).collect()] == ["a b/ü", "big"]
    obstore.delete(store, ["big"])
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "big")


def test_kafka_keeps_acknowledged_records(own_service: Own) -> None:
    kafka = own_service(Kafka)
    servers = {"bootstrap.servers": kafka.address}
    admin = AdminClient(servers)
    admin.create_topics([NewTopic("topic", 1, 1)])["topic"].result(TIMEOUT_S)
    producer = Producer({**servers, "acks": "all"})
    for number in range(10):
        producer.produce("topic", b"%d" % number)
    assert producer.flush(TIMEOUT_S) == 0
    kafka.kill()
    with TcpProxy(kafka.address) as proxy:
        kafka.advertised = proxy.address
        kafka.start()
        servers = {"bootstrap.servers": proxy.address}
        consumer = Consumer({**servers, "group.id": "test", "auto.offset.reset": "earliest"})
        consumer.subscribe(["topic"])
        values = [message.value() for message in consumer.consume(10, TIMEOUT_S)]
        consumer.close()
    assert values == [b"%d" % number for number in range(10)]


def test_pulsar_keeps_acknowledged_messages(own_service: Own) -> None:
    server = own_service(Pulsar)
    topic = "persistent://public/default/topic"
    quiet = pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)
    client = pulsar.Client(server.address, logger=quiet)
    producer = client.create_producer(topic)
    for number in range(10):
        producer.send(b"%d" % number)
    client.close()
    server.kill()
    with TcpProxy(server.endpoint) as proxy:
        server.advertised = proxy.address
        server.start()
        client = pulsar.Client(f"pulsar://{proxy.address}", logger=quiet)
        reader = client.create_reader(topic, pulsar.MessageId.earliest)
        values = [reader.read_next(int(TIMEOUT_S * 1_000)).data() for _ in range(10)]
        client.close()
    assert values == [b"%d" % number for number in range(10)]


def test_a_frozen_server_is_silent_until_it_thaws(own_service: Own) -> None:
    etcd = own_service(Etcd)
    put(etcd, "name", "value")
    etcd.pause()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{etcd.address}/health", timeout=0.3, trust_env=False)
    etcd.resume()
    assert get(etcd, "name") == "value"


def test_a_server_that_cannot_start_says_what_it_logged(etcd: Etcd, tmp_path: Path) -> None:
    server = Etcd(tmp_path)
    server.ports["peer"] = etcd.ports["peer"]
    with pytest.raises(ServiceError, match="address already in use"):
        server.start()
    assert not server.running


OWNER = """
import os, signal, sys
from pathlib import Path
from tests.services.etcd import Etcd
print(Etcd(Path(sys.argv[1])).start().pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_servers_die_with_their_owner(etcd: Etcd, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    root = Path(__file__).parents[2]
    owner = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=False)
    assert ends(int(owner.stdout))
    assert etcd.running


def ends(pid: int) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], TIMEOUT_S)[0])
    finally:
        os.close(process)
