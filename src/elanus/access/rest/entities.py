"""Writing rows, and reading them by key or by filter."""

from collections.abc import Sequence
from typing import Any

from elanus.access.rest.bodies import Body
from elanus.access.rest.call import RestCall
from elanus.access.rest.creation import consistency_level
from elanus.access.rest.errors import MissingParameters, NotJson, PrimaryKeyError
from elanus.access.rest.results import element_rows, ids, query_rows
from elanus.access.rest.templates import array_value, encode_templates
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType
from elanus.rows.objects import WriteMode, field_messages
from elanus.rows.texts import json_name
from elanus.wire.protocol import milvus, schema
from elanus.wire.results import COUNT_FIELD
from elanus.wire.schema import dict_to_pairs

DEFAULT_LIMIT = 100
_KEYS = "keys"
"""Name of the placeholder in the filter of a read by keys."""


async def insert(call: RestCall) -> dict[str, Any]:
    request = milvus.InsertRequest()
    await _fill(call, request, WriteMode())
    result = await call.send("Insert", request)
    return _written(call, "insert", result.insert_cnt, result)


async def upsert(call: RestCall) -> dict[str, Any]:
    partial = call.body.flag("partialUpdate")
    request = milvus.UpsertRequest(partial_update=partial)
    await _fill(call, request, WriteMode(upsert=True, partial=partial))
    for operation in call.body.parts("fieldOps"):
        request.field_ops.append(_operation(operation))
    result = await call.send("Upsert", request)
    return _written(call, "upsert", result.upsert_cnt, result)


async def delete(call: RestCall) -> dict[str, Any]:
    body = call.body
    result = await call.rpc(
        "Delete",
        collection_name=body.required_text("collectionName"),
        partition_name=body.text("partitionName"),
        expr=body.required_text("filter"),
        expr_template_values=encode_templates(body.mapping("exprParams")),
    )
    return {"data": {"deleteCount": result.delete_cnt}, "cost": 0}


async def query(call: RestCall) -> dict[str, Any]:
    """Without a limit of its own a query gets 100 rows; 0 asks for all."""
    body = call.body
    request = _query_request(body)
    request.expr = body.text("filter")
    _add_templates(request, encode_templates(body.mapping("exprParams")))
    limit, offset = body.integer("limit", DEFAULT_LIMIT), body.integer("offset", 0)
    if limit and list(request.output_fields) != [COUNT_FIELD]:
        params = {"limit": str(limit), **({"offset": str(offset)} if offset else {})}
        request.query_params.extend(dict_to_pairs(params))
    return await _read(call, request)


async def get(call: RestCall) -> dict[str, Any]:
    """Rows by primary key; keys that no row has are left out."""
    body = call.body
    given = body.get("id")
    if given is None or given == []:
        raise MissingParameters("the key 'id' is required")
    primary = (await call.collection()).schema.primary
    keys = primary_keys(given if isinstance(given, list) else [given], primary)
    request = _query_request(body)
    request.expr = f"{primary.name} in {{{_KEYS}}}"
    _add_templates(request, {_KEYS: schema.TemplateValue(array_val=array_value(keys))})
    return await _read(call, request)


def primary_keys(given: list[Any], primary: FieldSchema) -> list[Any]:
    """``given`` as keys of the field ``primary``. Raises PrimaryKeyError."""
    if primary.data_type is DataType.VARCHAR:
        for key in given:
            if isinstance(key, bool | list | dict) or key is None:
                raise PrimaryKeyError(f"{key!r} is not a key of the VarChar field {primary.name}")
        return [str(key) for key in given]
    return [_integer_key(key, primary.name) for key in given]


def _integer_key(key: Any, name: str) -> int:
    if type(key) in (int, str):
        try:
            number = int(key)
        except ValueError:
            pass
        else:
            if -(1 << 63) <= number < 1 << 63:
                return number
    raise PrimaryKeyError(f"{key!r} is not a key of the Int64 field {name}")


async def _fill(call: RestCall, request: Any, mode: WriteMode) -> None:
    """Sets names and columns of an insert or upsert."""
    body = call.body
    data = body.get("data")
    rows = [data] if isinstance(data, dict) else data
    if not rows:
        raise MissingParameters("the key 'data' is required")
    if not isinstance(rows, list):
        raise NotJson("'data' should be an object or an array of objects")
    _check_rows(rows)
    collection = await call.collection()

    def columns() -> list[Any]:
        return field_messages(rows, collection.schema, collection.properties, mode)

    request.collection_name = body.required_text("collectionName")
    request.partition_name = body.text("partitionName")
    request.num_rows = len(rows)
    request.fields_data.extend(await call.convert(call.size_bytes, columns))


def _check_rows(rows: Sequence[Any]) -> None:
    """Raises NotJson if one is not an object."""
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise NotJson(f"'data[{number}]' should be an object, but got {json_name(row)}")


def _operation(body: Body) -> Any:
    """A schema.FieldPartialUpdateOp message."""
    message = schema.FieldPartialUpdateOp(field_name=body.required_text("fieldName"))
    operations = message.DESCRIPTOR.fields_by_name["op"].enum_type.values_by_name
    name = body.required_text("op")
    if name not in operations:
        raise NotJson(f"unknown field operation {name}, there are {', '.join(operations)}")
    message.op = operations[name].number
    return message


def _written(call: RestCall, action: str, count: int, result: Any) -> dict[str, Any]:
    keys = ids(result.IDs, int64_as_text=call.int64_as_text)
    return {"data": {f"{action}Count": count, f"{action}Ids": keys}, "cost": 0}


def _query_request(body: Body) -> Any:
    level = consistency_level(body)
    return milvus.QueryRequest(
        collection_name=body.required_text("collectionName"),
        output_fields=body.texts("outputFields") or ["*"],
        partition_names=body.texts("partitionNames"),
        use_default_consistency=level is None,
        consistency_level=0 if level is None else int(level),
    )


def _add_templates(request: Any, templates: dict[str, Any]) -> None:
    for name, value in templates.items():
        request.expr_template_values[name].CopyFrom(value)


async def _read(call: RestCall, request: Any) -> dict[str, Any]:
    response = await call.send("Query", request)

    def rows() -> list[dict[str, Any]]:
        rows = query_rows(response.fields_data, int64_as_text=call.int64_as_text)
        found = response.element_indices
        return element_rows(rows, found) if found else rows

    return {"data": await call.convert(response.ByteSize(), rows), "cost": 0}


ROUTES = {
    "entities/insert": insert,
    "entities/upsert": upsert,
    "entities/delete": delete,
    "entities/query": query,
    "entities/get": get,
}
