"""Index definitions: at most one index on a field (one on each path of a JSON field)."""

import msgspec

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import Context
from elanus.coordinator.dropping import drop_orphans
from elanus.coordinator.records import CollectionRecord
from elanus.coordinator.root.names import require_known, resolve_id
from elanus.coordinator.streaming.channels import Channels
from elanus.errors import CollectionAlreadyLoaded, InvalidParameter, Rejected
from elanus.model.catalog import CollectionInfo, IndexInfo

_MAPPING = "mmap.enabled"
_OFFSET_CACHE = "indexoffsetcache.enabled"


def is_vector_index(collection: CollectionInfo, index: IndexInfo) -> bool:
    field = collection.schema.by_name.get(index.field_name)
    return field is not None and field.data_type.is_vector


class IndexDefinitions:
    def __init__(self, context: Context, channels: Channels) -> None:
        self._context = context
        self._catalog = context.catalog
        self._channels = channels

    async def create_index(self, index: IndexInfo) -> IndexInfo:
        """Without a name it gets the field's. The same again gives the existing one."""
        index_id = await self._context.ids.allocate()
        created_ts = await self._context.timestamps.allocate()
        result = index

        def decide() -> Change | None:
            nonlocal result
            info = resolve_id(self._catalog, index.collection_id)
            if index.field_name not in info.schema.by_name and not info.schema.enable_dynamic_field:
                raise Rejected(f"cannot create index on non-exist field: {index.field_name}")
            existing = self._existing(index)
            if existing is not None:
                result = existing
                return None
            result = msgspec.structs.replace(
                index,
                index_id=index_id,
                created_ts=created_ts,
                name=index.name or _default_name(index),
            )
            return Change(put=[result, CollectionRecord.changed(info)])

        await self._catalog.commit(decide)
        await self._announce(index.collection_id)
        return result

    def _existing(self, index: IndexInfo) -> IndexInfo | None:
        """The index that already is what is asked for. Raises Rejected for a conflict."""
        for other in self._catalog.indexes(index.collection_id):
            same_place = other.field_name == index.field_name and _path(other) == _path(index)
            same = (
                same_place
                and other.index_type == index.index_type
                and other.metric_type == index.metric_type
                and _build_params(other) == _build_params(index)
            )
            name = index.name or (other.name if same else _default_name(index))
            if other.name == name:
                if same:
                    return other
                raise Rejected(
                    "CreateIndex failed: at most one distinct index is allowed per field"
                )
            if same_place:
                raise Rejected(
                    "CreateIndex failed: creating multiple indexes on same field is not supported"
                )
        return None

    async def drop_index(self, collection_id: int, name: str) -> None:
        """A missing index is fine. An empty name means the only index that there is."""

        def decide() -> Change | None:
            info = resolve_id(self._catalog, collection_id)
            found = [i for i in self._catalog.indexes(collection_id) if name in ("", i.name)]
            if len(found) > 1:
                raise InvalidParameter(
                    f"there are {len(found)} indexes on collection {info.name}, "
                    "specify the name of the index to drop"
                )
            if not found:
                return None
            if collection_id in self._catalog.tables.loads and is_vector_index(info, found[0]):
                raise InvalidParameter(
                    f"vector index cannot be dropped on loaded collection: {collection_id}"
                )
            return Change(put=[CollectionRecord.changed(info)], delete=found)

        await self._catalog.commit(decide)
        await self._announce(collection_id)

    async def alter_index(
        self, collection_id: int, name: str, properties: dict[str, str], delete_keys: list[str]
    ) -> None:
        """Raises InvalidParameter, CollectionAlreadyLoaded; a missing index is fine."""

        def decide() -> Change | None:
            info = resolve_id(self._catalog, collection_id)
            found = next((i for i in self._catalog.indexes(collection_id) if i.name == name), None)
            if found is None:
                return None
            _check_properties(properties, delete_keys)
            if collection_id in self._catalog.tables.loads:
                raise CollectionAlreadyLoaded(
                    "can't alter index on loaded collection, please release the collection first",
                    info.name,
                )
            merged = {**found.user_params, **properties}
            kept = {key: value for key, value in merged.items() if key not in delete_keys}
            return Change(put=[msgspec.structs.replace(found, user_params=kept)])

        await self._catalog.commit(decide)
        self._context.events.metadata_changed(collection_id)

    async def list_indexes(self, collection_id: int) -> list[IndexInfo]:
        """In the order of their creation."""
        require_known(self._catalog, collection_id)
        return list(self._catalog.indexes(collection_id))

    async def _announce(self, collection_id: int) -> None:
        await self._channels.announce(collection_id)
        await drop_orphans(self._context, collection_id)
        self._context.events.metadata_changed(collection_id)
        self._context.events.segments_changed(collection_id)


def _path(index: IndexInfo) -> str:
    return index.params.get("json_path", "")


def _build_params(index: IndexInfo) -> dict[str, str]:
    return {k: v for k, v in index.params.items() if k not in (_MAPPING, _OFFSET_CACHE)}


def _default_name(index: IndexInfo) -> str:
    return index.field_name + _path(index)


def _check_properties(properties: dict[str, str], delete_keys: list[str]) -> None:
    for key in [*properties, *delete_keys]:
        if key not in (_MAPPING, _OFFSET_CACHE) and not key.startswith("warmup"):
            raise InvalidParameter(f"{key} is not a configable index property")
    mapping = properties.get(_MAPPING, "true")
    if mapping.lower() not in ("true", "false"):
        raise InvalidParameter(f"invalid {_MAPPING} value: {mapping}, expected: true, false")
    if properties.get(_OFFSET_CACHE, "true").lower() not in ("true", "false"):
        raise InvalidParameter("invalid offset cache index params")
