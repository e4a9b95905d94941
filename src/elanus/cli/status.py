"""``elanus status``: what a running server holds."""

from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from elanus.cli.rest_client import RestClient


def show_status(uri: str, *, as_json: bool) -> None:
    """Raises ServerError."""
    client = RestClient(uri)
    try:
        collections = [
            _collection(client, database, name)
            for database in client.call("databases/list")
            for name in sorted(client.call("collections/list", {"dbName": database}))
        ]
    finally:
        client.close()
    if as_json:
        print(orjson.dumps({"uri": client.uri, "collections": collections}).decode())
        return
    table = Table(title=f"Elanus at {client.uri}")
    for header in ("database", "collection", "rows", "load", "indexes"):
        table.add_column(header, justify="right" if header == "rows" else "left")
    for item in collections:
        indexes = ", ".join(
            f"{index['fieldName']}: {index['indexType']} {index['indexState']} "
            f"({index['indexedRows']:,} of {index['totalRows']:,})"
            for index in item["indexes"]
        )
        load = item["load"]["loadState"].removeprefix("LoadState")
        table.add_row(
            item["database"], item["collection"], f"{item['rows']:,}", load, indexes or "none"
        )
    Console().print(table)


def _collection(client: RestClient, database: str, name: str) -> dict[str, Any]:
    key = {"dbName": database, "collectionName": name}
    return {
        "database": database,
        "collection": name,
        "rows": client.call("collections/get_stats", key)["rowCount"],
        "load": client.call("collections/get_load_state", key),
        "indexes": [
            description
            for index in client.call("indexes/list", key)
            for description in client.call("indexes/describe", {**key, "indexName": index})
        ],
    }
