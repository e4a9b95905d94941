"""Changing collections: names, properties, fields. The coordinator knows what may change."""

from collections.abc import Mapping
from typing import Any

import msgspec

from elanus.access.context import CallContext
from elanus.access.ddl import names
from elanus.access.ddl.fields import check_field
from elanus.access.ddl.lookup import find_collection
from elanus.access.ddl.properties import (
    REPLICA_NUMBER,
    RESOURCE_GROUPS,
    positive_int,
    text_list,
)
from elanus.access.proxy import Proxy
from elanus.engine.text.fields import check_analyzers, check_text_fields, has_analyzer
from elanus.errors import IllegalSchema, Rejected
from elanus.model.schema import DYNAMIC_FIELD, SYSTEM_FIELDS, FieldSchema
from elanus.wire.schema import decode_field, pairs_to_dict
from elanus.wire.status import success


async def rename_collection(proxy: Proxy, request: Any, context: CallContext) -> Any:
    limit = proxy.settings.proxy.max_name_length
    old = names.collection_name(request.oldName, limit)
    new = names.collection_name(request.newName, limit)
    new_database = request.newDBName or context.database
    context.collection = old
    await proxy.coordinator.rename_collection(context.database, old, new_database, new)
    return success()


async def alter_collection(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name, request.collectionID)
    properties = pairs_to_dict(request.properties)
    await proxy.coordinator.alter_collection(
        info.database, info.name, properties, list(request.delete_keys)
    )
    if REPLICA_NUMBER in properties or RESOURCE_GROUPS in properties:
        await _change_replicas(proxy, info.collection_id, properties)
    return success()


async def _change_replicas(proxy: Proxy, collection_id: int, properties: Mapping[str, str]) -> None:
    """A loaded collection follows its properties."""
    load = await proxy.coordinator.load_info(collection_id)
    if load is not None:
        replicas = positive_int(properties, REPLICA_NUMBER) or load.replica_number
        groups = text_list(properties, RESOURCE_GROUPS)
        await proxy.coordinator.load(collection_id, load.partition_ids, replicas, groups)


async def alter_collection_field(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    await proxy.coordinator.alter_field(
        info.database,
        info.name,
        request.field_name,
        pairs_to_dict(request.properties),
        list(request.delete_keys),
    )
    return success()


async def add_collection_field(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name, request.collectionID)
    field = decode_field(request.schema)
    limits = proxy.settings.proxy
    if len(info.schema.user_fields) >= limits.max_field_num:
        raise Rejected(
            f"The number of fields has reached the maximum value {limits.max_field_num}, "
            f"collection = {info.name}"
        )
    _check_addable(field)
    check_field(field, info.name, limits)
    check_text_fields([field])
    if has_analyzer(field):
        schema = msgspec.structs.replace(info.schema, fields=(*info.schema.fields, field))
        await proxy.world.executor.run("compute", check_analyzers, schema)
    if field.name in info.schema.names:
        raise Rejected(f"duplicate field name: {field.name}")
    if field.is_clustering_key and any(f.is_clustering_key for f in info.schema.fields):
        raise IllegalSchema(
            f"there are more than one clustering key, field name = {field.name}: "
            "illegal collection schema"
        )
    await proxy.coordinator.add_field(info.database, info.name, field)
    return success()


def _check_addable(field: FieldSchema) -> None:
    name = field.name
    if name in SYSTEM_FIELDS or name == DYNAMIC_FIELD or field.is_dynamic:
        raise Rejected(f"not support to add system field, field name = {name}")
    if field.is_primary:
        raise Rejected(f"not support to add pk field, field name = {name}")
    if field.auto_id:
        raise Rejected(f"only primary field can speficy AutoID with true, field name = {name}")
    if field.data_type.is_vector:
        raise Rejected(f"not support to add vector field, field name = {name}")
    if field.is_partition_key:
        raise Rejected(f"not support to add partition key field, field name  = {name}")
    if not field.nullable:
        raise Rejected(f"added field must be nullable, please check it, field name = {name}")


HANDLERS = {
    "RenameCollection": rename_collection,
    "AlterCollection": alter_collection,
    "AlterCollectionField": alter_collection_field,
    "AddCollectionField": add_collection_field,
}
