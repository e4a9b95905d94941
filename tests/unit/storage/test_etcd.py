"""The parts of the etcd backend that decide without a server."""

import subprocess
import sys
from typing import Any

import pytest

from elanus.config.storage import EtcdSettings, EtcdSslSettings
from elanus.errors import InvalidParameter, Unavailable
from elanus.runtime.world import World
from elanus.storage.meta import _etcd_protocol as protocol
from elanus.storage.meta._etcd_members import parse_endpoints
from elanus.storage.meta._etcd_watch import PairEvent, WatchCursor, WatchRefused
from elanus.storage.meta.base import Compare, Delete, Put, RevisionCompacted
from elanus.storage.meta.etcd import EtcdMetaStore, _happens_once_only


def response_of(*revisions: int, fragment: bool = False, header: int = 1_000) -> Any:
    """Puts at ``revisions``; the key says which event of its revision each is."""
    response = protocol.WatchResponse(fragment=fragment)
    response.header.revision = header
    for number, revision in enumerate(revisions):
        key = f"{revision}.{revisions[:number].count(revision)}".encode()
        event = response.events.add()
        event.kv.key = key
        event.kv.mod_revision = revision
    return response


def accepted(cursor: WatchCursor, response: Any) -> list[str]:
    return [event.key.decode() for event in cursor.accept(response)]


def test_events_come_in_order_and_deletions_have_no_value() -> None:
    cursor = WatchCursor(5)
    response = response_of(5, 6)
    response.events[0].kv.value = b"x"
    response.events[1].type = response.events[1].DELETE
    assert cursor.accept(response) == [PairEvent(b"5.0", b"x", 5), PairEvent(b"6.0", None, 6)]


def test_a_watch_opens_one_revision_early_and_hides_it() -> None:
    cursor = WatchCursor(5)
    assert cursor.restart() == 4
    assert accepted(cursor, response_of(4, 5)) == ["5.0"]
    assert WatchCursor(0).restart() == WatchCursor(1).restart() == 1


def test_the_newest_revision_of_the_store_says_nothing_of_the_watch() -> None:
    cursor = WatchCursor(5)
    created = protocol.WatchResponse(created=True)
    created.header.revision = 1_000
    assert cursor.accept(created) == []
    assert accepted(cursor, response_of(5, header=1_000)) == ["5.0"]
    assert cursor.restart() == 5


def test_a_progress_note_moves_the_watch_on() -> None:
    cursor = WatchCursor(5)
    assert cursor.accept(response_of(header=90)) == []
    assert cursor.restart() == 90
    assert cursor.accept(response_of(header=80)) == []
    assert cursor.restart() == 90


def test_a_revision_is_told_when_its_last_fragment_is_here() -> None:
    cursor = WatchCursor(5)
    assert accepted(cursor, response_of(5, 6, 6, fragment=True)) == ["5.0"]
    assert accepted(cursor, response_of(6, 7, fragment=True)) == ["6.0", "6.1", "6.0"]
    assert accepted(cursor, response_of(7)) == ["7.0", "7.0"]


def test_a_stream_that_breaks_between_fragments_is_read_again_from_there() -> None:
    cursor = WatchCursor(5)
    assert accepted(cursor, response_of(5, 6, 6, fragment=True)) == ["5.0"]
    assert cursor.restart() == 5
    assert accepted(cursor, response_of(5, 6, 6, 6)) == ["6.0", "6.1", "6.2"]


def test_a_compaction_is_told_with_both_revisions() -> None:
    cursor = WatchCursor(5)
    with pytest.raises(RevisionCompacted, match=r"up to revision 7 .* revision 5"):
        cursor.accept(protocol.WatchResponse(canceled=True, compact_revision=7))


def test_a_refusal_gives_its_reason() -> None:
    response = protocol.WatchResponse(created=True, canceled=True, cancel_reason="permission")
    with pytest.raises(WatchRefused, match="permission"):
        WatchCursor(5).accept(response)


@pytest.mark.parametrize(
    ("operations", "compares", "once"),
    [
        ([Put("a", b"")], [Compare("a", 7)], True),
        ([Delete("a"), Put("b", b"")], [Compare("a", 7)], True),
        ([Put("a", b"")], [], False),
        ([Put("a", b"")], [Compare("b", 7)], False),
        # Somebody may delete the key in between, and then it would be created a second time.
        ([Put("a", b"")], [Compare("a", 0)], False),
    ],
)
def test_only_a_change_of_a_named_revision_happens_once_only(
    operations: list[Put | Delete], compares: list[Compare], once: bool
) -> None:
    assert _happens_once_only(operations, compares) is once


def test_endpoints_are_addresses_with_or_without_a_scheme() -> None:
    assert parse_endpoints("etcd-0:2379, http://etcd-1:2379/,https://[::1]:2379,") == [
        "etcd-0:2379",
        "etcd-1:2379",
        "[::1]:2379",
    ]


@pytest.mark.parametrize("endpoints", ["", " , ", "host", "host:", ":2379", "a:1,host:port"])
def test_endpoints_that_are_no_addresses_are_refused(endpoints: str) -> None:
    with pytest.raises(InvalidParameter, match=r"etcd\.endpoints: .*expected=host:port"):
        parse_endpoints(endpoints)


@pytest.mark.parametrize(
    ("files", "error", "told"),
    [
        ({"tls_ca_cert": "/nowhere/ca.pem"}, Unavailable, r"tlsCACert /nowhere/ca\.pem"),
        ({"tls_cert": "/nowhere/c.pem", "tls_key": "k"}, Unavailable, r"tlsCert /nowhere/c\.pem"),
        ({"tls_cert": "/nowhere/c.pem"}, InvalidParameter, "belong together"),
    ],
)
async def test_files_that_can_not_be_used_are_named(
    world: World, files: dict[str, str], error: type[Exception], told: str
) -> None:
    settings = EtcdSettings(ssl=EtcdSslSettings(enabled=True, **files))
    with pytest.raises(error, match=told):
        await EtcdMetaStore.open(world, settings)


def test_another_etcd_client_in_the_process_does_not_collide() -> None:
    code = """
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
theirs = FileDescriptorProto(name="rpc.proto", package="etcdserverpb")
theirs.message_type.add(name="RangeRequest")
descriptor_pool.Default().AddSerializedFile(theirs.SerializeToString())
import elanus.storage.meta._etcd_protocol as protocol
print(protocol.RangeRequest(key=b"a").key)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "b'a'\n", run.stderr
