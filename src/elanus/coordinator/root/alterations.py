"""Changes of existing collections: names, properties, fields.

Each is one transaction that also gives the collection a new ``updated_ts`` (and a new schema
version where rows change their form). Then the shards learn of it through the log, then caches are
told, then the user is answered: whoever describes the collection again finds shards that know.
"""

from collections.abc import Callable

import msgspec

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import EVERYTHING, Context
from elanus.coordinator.records import CollectionRecord
from elanus.coordinator.root import schemas
from elanus.coordinator.root.names import (
    alias_target,
    aliases_of,
    by_name,
    require_database,
    resolve,
)
from elanus.coordinator.root.properties import (
    DESCRIPTION,
    DYNAMIC_FIELD_ENABLED,
    PARTITION_KEY_ISOLATION,
    altered_field,
    changed_properties,
    check_collection_properties,
    is_mapping_key,
)
from elanus.coordinator.streaming.channels import Channels
from elanus.errors import (
    CollectionAlreadyLoaded,
    CollectionNotFound,
    IndexDuplicate,
    InvalidParameter,
    Rejected,
)
from elanus.model.catalog import CollectionInfo
from elanus.model.schema import SYSTEM_FIELDS, CollectionSchema, FieldSchema


class Alterations:
    def __init__(self, context: Context, channels: Channels) -> None:
        self._context = context
        self._catalog = context.catalog
        self._channels = channels

    async def rename_collection(
        self, database: str, name: str, new_database: str, new_name: str
    ) -> None:
        new_database = new_database or database
        updated_ts = await self._context.timestamps.allocate()

        def decide() -> Change:
            info = self._renamed(database, name, new_database, new_name)
            schema = msgspec.structs.replace(info.schema, name=new_name)
            changed = msgspec.structs.replace(
                info, schema=schema, database=new_database, updated_ts=updated_ts
            )
            return _put(changed)

        await self._catalog.commit(decide)
        self._context.events.metadata_changed(EVERYTHING)

    def _renamed(
        self, database: str, name: str, new_database: str, new_name: str
    ) -> CollectionInfo:
        if (database, name) == (new_database, new_name):
            raise InvalidParameter("collection name or database name should be different")
        require_database(self._catalog, new_database)
        info = by_name(self._catalog, database, name)
        if info is None:
            if alias_target(self._catalog, database, name) is not None:
                raise Rejected(f"unsupported use an alias to rename collection, alias:{name}")
            raise CollectionNotFound(database, name)
        if alias_target(self._catalog, new_database, new_name) is not None:
            raise Rejected(f"cannot rename collection to an existing alias: {new_name}")
        if (new_database, new_name) in self._catalog.tables.names:
            raise Rejected(
                f"duplicated new collection name {new_database}:{new_name} with other collection "
                "name or alias"
            )
        if database != new_database and aliases_of(self._catalog, info.collection_id):
            raise Rejected(
                "fail to rename collection to different database, must drop all aliases of "
                f"collection {name} before rename"
            )
        return info

    async def alter_collection(
        self, database: str, name: str, properties: dict[str, str], delete_keys: list[str]
    ) -> None:
        def alter(info: CollectionInfo) -> CollectionInfo:
            if DYNAMIC_FIELD_ENABLED in properties:
                return self._with_dynamic_field(info, properties)
            changed = changed_properties(info.properties, properties, delete_keys)
            self._check_loaded(info, properties, delete_keys)
            check_collection_properties(info.schema, properties)
            self._check_isolation(info, properties)
            description = changed.pop(DESCRIPTION, info.schema.description)
            schema = info.schema
            if description != schema.description:
                schema = msgspec.structs.replace(schema, description=description)
            return msgspec.structs.replace(info, properties=changed, schema=schema)

        await self._change(database, name, alter)

    def _with_dynamic_field(
        self, info: CollectionInfo, properties: dict[str, str]
    ) -> CollectionInfo:
        if len(properties) > 1:
            raise InvalidParameter(
                "cannot alter dynamic schema with other properties at the same time"
            )
        value = properties[DYNAMIC_FIELD_ENABLED].lower()
        if value not in ("true", "false"):
            raise InvalidParameter(f"invalid {DYNAMIC_FIELD_ENABLED} value: {value}")
        if value == "false":
            if info.schema.enable_dynamic_field:
                raise InvalidParameter("dynamic schema cannot supported to be disabled")
            return info
        if info.schema.enable_dynamic_field:
            return info
        schema = schemas.with_field(info.schema, schemas.dynamic_field())
        return msgspec.structs.replace(info, schema=schema)

    def _check_loaded(
        self, info: CollectionInfo, properties: dict[str, str], delete_keys: list[str]
    ) -> None:
        if info.collection_id not in self._catalog.tables.loads:
            return
        for action, keys in (("alter", list(properties)), ("delete", delete_keys)):
            if any(is_mapping_key(key) for key in keys):
                raise CollectionAlreadyLoaded(
                    f"can not {action} mmap properties if collection loaded", info.name
                )

    def _check_isolation(self, info: CollectionInfo, properties: dict[str, str]) -> None:
        wanted = properties.get(PARTITION_KEY_ISOLATION)
        if wanted is None or wanted == info.properties.get(PARTITION_KEY_ISOLATION, "false"):
            return
        for index in self._catalog.indexes(info.collection_id):
            field = info.schema.by_name.get(index.field_name)
            if field is not None and field.data_type.is_vector:
                raise IndexDuplicate(
                    "can not alter partition key isolation mode if the collection already has a "
                    "vector index. Please drop the index first",
                    index.name,
                )

    async def alter_field(
        self,
        database: str,
        name: str,
        field: str,
        properties: dict[str, str],
        delete_keys: list[str],
    ) -> None:
        largest = self._context.settings.proxy.max_var_char_length

        def alter(info: CollectionInfo) -> CollectionInfo:
            old = info.schema.by_name.get(field)
            if old is None:
                raise InvalidParameter(f"field {field} does not exist in collection {info.name}")
            new = altered_field(old, properties, delete_keys, largest)
            self._check_loaded(info, properties, delete_keys)
            if new == old:
                return info
            fields = tuple(new if f is old else f for f in info.schema.fields)
            schema = msgspec.structs.replace(
                info.schema, fields=fields, version=info.schema.version + 1
            )
            return msgspec.structs.replace(info, schema=schema)

        await self._change(database, name, alter)

    async def add_field(self, database: str, name: str, field: FieldSchema) -> None:
        def alter(info: CollectionInfo) -> CollectionInfo:
            self._check_added(info.schema, field)
            timed = schemas.with_default_time(field, info.timezone)
            return msgspec.structs.replace(info, schema=schemas.with_field(info.schema, timed))

        await self._change(database, name, alter)

    def _check_added(self, schema: CollectionSchema, field: FieldSchema) -> None:
        name, limit = field.name, self._context.settings.proxy.max_field_num
        problems = {
            f"not support to add system field, field name = {name}": name in SYSTEM_FIELDS
            or field.is_dynamic,
            f"not support to add pk field, field name = {name}": field.is_primary,
            f"only primary field can speficy AutoID with true, field name = {name}": field.auto_id,
            f"not support to add partition key field, field name  = {name}": field.is_partition_key,
            f"not support to add vector field, field name = {name}": field.data_type.is_vector,
            f"already has another clutering key field, field name: {name}": field.is_clustering_key
            and any(f.is_clustering_key for f in schema.fields),
            f"added field must be nullable, please check it, field name = {name}": (
                not field.nullable
            ),
            f"duplicate field name: {name}": name in schema.names,
            f"The number of fields has reached the maximum value {limit}": (
                len(schema.user_fields) >= limit
            ),
        }
        for message, found in problems.items():
            if found:
                raise InvalidParameter(message)
        schemas.check_field(field)

    async def _change(
        self, database: str, name: str, alter: Callable[[CollectionInfo], CollectionInfo]
    ) -> None:
        collection_id = resolve(self._catalog, database, name).collection_id
        updated_ts = await self._context.timestamps.allocate()

        def decide() -> Change | None:
            info = resolve(self._catalog, database, name)
            changed = alter(info)
            if changed == info:
                return None
            return _put(msgspec.structs.replace(changed, updated_ts=updated_ts))

        await self._catalog.commit(decide)
        await self._channels.announce(collection_id)
        self._context.events.metadata_changed(collection_id)
        self._context.events.segments_changed(collection_id)


def _put(info: CollectionInfo) -> Change:
    return Change(put=[CollectionRecord.changed(info)])
