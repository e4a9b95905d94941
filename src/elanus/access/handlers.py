"""Every method of MilvusService that is there. The others are answered UNIMPLEMENTED, by name."""

from elanus.access.ddl import HANDLERS as ADMINISTRATION
from elanus.access.dispatch import HandlerFunction
from elanus.access.dml.delete import delete
from elanus.access.dml.imports import HANDLERS as IMPORTS
from elanus.access.dml.insert import insert, upsert
from elanus.access.dql.hybrid import hybrid_search
from elanus.access.dql.query import query
from elanus.access.dql.search import search

HANDLERS: dict[str, HandlerFunction] = {
    **ADMINISTRATION,
    **IMPORTS,
    "Insert": insert,
    "Upsert": upsert,
    "Delete": delete,
    "Search": search,
    "HybridSearch": hybrid_search,
    "Query": query,
}
