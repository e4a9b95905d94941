"""Databases."""

from typing import Any

from elanus.access.context import CallContext
from elanus.access.ddl import names
from elanus.access.proxy import Proxy
from elanus.wire.protocol import milvus
from elanus.wire.schema import dict_to_pairs, pairs_to_dict
from elanus.wire.status import success


async def create_database(proxy: Proxy, request: Any, context: CallContext) -> Any:
    name = names.database_name(request.db_name, proxy.settings.proxy.max_name_length)
    await proxy.coordinator.create_database(name, pairs_to_dict(request.properties))
    return success()


async def drop_database(proxy: Proxy, request: Any, context: CallContext) -> Any:
    name = names.database_name(request.db_name, proxy.settings.proxy.max_name_length)
    await proxy.coordinator.drop_database(name)
    return success()


async def list_databases(proxy: Proxy, request: Any, context: CallContext) -> Any:
    databases = await proxy.coordinator.list_databases()
    return milvus.ListDatabasesResponse(
        status=success(),
        db_names=[database.name for database in databases],
        created_timestamp=[database.created_ts for database in databases],
        db_ids=[database.database_id for database in databases],
    )


async def describe_database(proxy: Proxy, request: Any, context: CallContext) -> Any:
    database = await proxy.coordinator.describe_database(context.database)
    return milvus.DescribeDatabaseResponse(
        status=success(),
        db_name=database.name,
        dbID=database.database_id,
        created_timestamp=database.created_ts,
        properties=dict_to_pairs(database.properties),
    )


async def alter_database(proxy: Proxy, request: Any, context: CallContext) -> Any:
    await proxy.coordinator.alter_database(
        context.database, pairs_to_dict(request.properties), list(request.delete_keys)
    )
    return success()


HANDLERS = {
    "CreateDatabase": create_database,
    "DropDatabase": drop_database,
    "ListDatabases": list_databases,
    "DescribeDatabase": describe_database,
    "AlterDatabase": alter_database,
}
