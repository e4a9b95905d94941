"""The identity mark of a log in Pulsar: the last record of a topic of its own."""

from uuid import UUID

from elanus.config.storage import PulsarSettings
from elanus.runtime.world import World
from elanus.storage.identity import Identity, IdentityMark, decode_identity, encode_identity
from elanus.storage.wal.pulsar import MARK_SUFFIX, PulsarWal

_NO_CLUSTER = str(UUID(int=0))
_TERM = 1


class PulsarMark(IdentityMark):
    def __init__(self, world: World, settings: PulsarSettings, prefix: str) -> None:
        self.name = f"WAL {settings.address} {settings.tenant}/{settings.namespace}/{prefix}*"
        self._world = world
        self._settings = settings
        self._prefix = prefix
        self._topic = prefix + MARK_SUFFIX

    async def read(self) -> Identity | None:
        wal = self._wal()
        try:
            found = None
            async for record in wal.read(self._topic):
                found = decode_identity(bytes(record.payload), self.name)
            return found
        finally:
            await wal.close()

    async def write(self, identity: Identity) -> None:
        wal = self._wal()
        try:
            writer = await wal.open_writer(self._topic, _TERM)
            await writer.append([[encode_identity(identity)]])
        finally:
            await wal.close()

    async def holds_data(self) -> bool:
        wal = self._wal()
        try:
            return bool(await wal.list_channels())
        finally:
            await wal.close()

    def _wal(self) -> PulsarWal:
        return PulsarWal(self._world, self._settings, self._prefix, _NO_CLUSTER)
