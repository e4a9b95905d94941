"""Aliases."""

from typing import Any

from elanus.access.rest.call import RestCall


async def list_all(call: RestCall) -> dict[str, Any]:
    name = call.body.text("collectionName")
    return {"data": list((await call.rpc("ListAliases", collection_name=name)).aliases)}


async def describe(call: RestCall) -> dict[str, Any]:
    response = await call.rpc("DescribeAlias", alias=call.body.required_text("aliasName"))
    return {
        "data": {
            "dbName": response.db_name,
            "collectionName": response.collection,
            "aliasName": response.alias,
        }
    }


async def create(call: RestCall) -> dict[str, Any]:
    return await _point(call, "CreateAlias")


async def alter(call: RestCall) -> dict[str, Any]:
    return await _point(call, "AlterAlias")


async def drop(call: RestCall) -> dict[str, Any]:
    await call.rpc("DropAlias", alias=call.body.required_text("aliasName"))
    return {"data": {}}


async def _point(call: RestCall, method: str) -> dict[str, Any]:
    await call.rpc(
        method,
        collection_name=call.body.required_text("collectionName"),
        alias=call.body.required_text("aliasName"),
    )
    return {"data": {}}


ROUTES = {
    "aliases/list": list_all,
    "aliases/describe": describe,
    "aliases/create": create,
    "aliases/alter": alter,
    "aliases/drop": drop,
}
