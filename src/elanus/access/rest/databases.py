"""Databases."""

from typing import Any

from elanus.access.rest.bodies import as_texts
from elanus.access.rest.call import RestCall
from elanus.wire.schema import dict_to_pairs, pairs_to_dict


async def create(call: RestCall) -> dict[str, Any]:
    name = call.body.required_text("dbName")
    properties = dict_to_pairs(as_texts(call.body.mapping("properties")))
    await call.rpc("CreateDatabase", db_name=name, properties=properties)
    return {"data": {}}


async def drop(call: RestCall) -> dict[str, Any]:
    await call.rpc("DropDatabase", db_name=call.body.required_text("dbName"))
    return {"data": {}}


async def list_all(call: RestCall) -> dict[str, Any]:
    return {"data": list((await call.rpc("ListDatabases")).db_names)}


async def describe(call: RestCall) -> dict[str, Any]:
    name = call.body.required_text("dbName")
    response = await call.rpc("DescribeDatabase", db_name=name)
    properties = pairs_to_dict(response.properties)
    return {
        "data": {
            "dbName": response.db_name,
            "dbID": str(response.dbID) if call.int64_as_text else response.dbID,
            "properties": key_values(properties),
        }
    }


async def alter_properties(call: RestCall) -> dict[str, Any]:
    name = call.body.required_text("dbName")
    properties = dict_to_pairs(as_texts(call.body.mapping("properties")))
    await call.rpc("AlterDatabase", db_name=name, properties=properties)
    return {"data": {}}


async def drop_properties(call: RestCall) -> dict[str, Any]:
    name = call.body.required_text("dbName")
    keys = call.body.required_texts("propertyKeys")
    await call.rpc("AlterDatabase", db_name=name, delete_keys=keys)
    return {"data": {}}


def key_values(values: dict[str, str]) -> list[dict[str, str]]:
    """Properties and parameters in the form that answers show them."""
    return [{"key": key, "value": value} for key, value in values.items()]


ROUTES = {
    "databases/create": create,
    "databases/drop": drop,
    "databases/list": list_all,
    "databases/describe": describe,
    "databases/alter": alter_properties,
    "databases/alter_properties": alter_properties,
    "databases/drop_properties": drop_properties,
}
