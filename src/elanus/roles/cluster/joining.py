"""Whether this process may join: it must speak as the others do, and they must let it in.

A process whose certificate is none of theirs could register all the same, since metadata is
another door, and the coordinator would then give it work that nobody can send it. So it asks one
of those that are there first. Sessions of processes that have died stay for a while: what they
seem to say is waited out.
"""

import asyncio
from collections.abc import Sequence

import structlog

from elanus.errors import ElanusError, Rejected, Unavailable
from elanus.roles.cluster.peers import Peers
from elanus.runtime.world import World
from elanus.services.cluster.sessions import Membership, SessionInfo
from elanus.services.interfaces import NodeService
from elanus.services.rpc.client import stub

log = structlog.get_logger(__name__)

LIVES_WAITED_OUT = 2
"""So many times the life of a session is waited for before a process gives up."""

ANSWER_TIMEOUT_S = 2.0
CHECK_S = 0.5


async def wait_for_entry(
    world: World, membership: Membership, peers: Peers, *, secure: bool, ttl_s: float
) -> None:
    """Returns once nothing speaks against joining. Raises Rejected if others speak differently,
    Unavailable if none of them answers."""
    deadline_s = world.clock.monotonic_s() + LIVES_WAITED_OUT * ttl_s
    while True:
        refusal = await _refusal(membership.everyone(), peers, secure=secure)
        if refusal is None:
            return
        if world.clock.monotonic_s() > deadline_s:
            raise refusal
        log.info("waiting to join", reason=refusal.message)
        await world.clock.sleep(CHECK_S)


async def _refusal(
    others: Sequence[SessionInfo], peers: Peers, *, secure: bool
) -> Rejected | Unavailable | None:
    different = [info for info in others if info.secure != secure]
    if different:
        words = ("in clear text", "over TLS")
        info = different[0]
        return Rejected(
            f"{info.role} node {info.node_id} at {info.address} speaks {words[info.secure]} and "
            f"this process {words[secure]}: common.security.internaltlsEnabled must be the same "
            "everywhere"
        )
    if not secure or not others or await _anyone_answers(others, peers):
        return None
    return Unavailable(
        f"none of {len(others)} processes lets this one in: is its certificate (internaltls.*) of "
        f"their authority, for their sni? The first is {others[0].role} at {others[0].address}"
    )


async def _anyone_answers(others: Sequence[SessionInfo], peers: Peers) -> bool:
    async def answers(info: SessionInfo) -> bool:
        node = stub(NodeService, peers.at(info.address), {"describe": ANSWER_TIMEOUT_S})
        try:
            await node.describe()
        except ElanusError:
            return False
        return True

    return any(await asyncio.gather(*map(answers, others)))
