"""Which indexes scalar fields can have, and what they need, with Milvus's texts.

They change how fast a filter is, never what it finds. But that an index of a JSON path casts
strings to doubles holds for all rows from then on, as if the schema said it.
"""

from collections.abc import Mapping

from elanus.access.ddl.vector_kinds import invalid
from elanus.engine.filter.faults import Fault
from elanus.engine.filter.json_cast import STRING_TO_DOUBLE
from elanus.engine.filter.parser import parse
from elanus.engine.index.scalar.base import pointer_of
from elanus.errors import InvalidParameter, MissingParameter
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType

TYPES = {
    "INVERTED": "INVERTED",
    "BITMAP": "BITMAP",
    "STL_SORT": "STL_SORT",
    "Asceneding": "STL_SORT",  # Milvus's name of old
    "Trie": "Trie",
    "TRIE": "Trie",
    "marisa-trie": "Trie",
    "NGRAM": "NGRAM",
    "RTREE": "RTREE",
}
"""The names that a request may use, and what they stand for."""
AUTO_TYPES = {
    DataType.BOOL: "BITMAP",
    DataType.FLOAT: "INVERTED",
    DataType.DOUBLE: "INVERTED",
    DataType.JSON: "INVERTED",
    DataType.GEOMETRY: "RTREE",
    DataType.TIMESTAMPTZ: "STL_SORT",
}
"""AUTOINDEX of the other scalars is HYBRID."""
_CAST_TYPES = frozenset(
    ("BOOL", "DOUBLE", "VARCHAR", "ARRAY_BOOL", "ARRAY_DOUBLE", "ARRAY_VARCHAR", "JSON")
)
_GRAMS = ("min_gram", "max_gram")


def check_applicability(index_type: str, field: FieldSchema) -> None:
    """Raises InvalidParameter if this index can't be on this field."""
    fault = _misfit(index_type, field)
    if fault:
        raise invalid(f"{fault}, field = {field.name}")


def _misfit(index_type: str, field: FieldSchema) -> str | None:
    data_type = field.data_type
    is_array = data_type is DataType.ARRAY
    held = field.element_type if is_array else data_type
    match index_type:
        case "INVERTED":
            if data_type in (DataType.GEOMETRY, DataType.TIMESTAMPTZ):
                return f"INVERTED are not supported on {data_type.milvus_name} field"
        case "BITMAP":
            if field.is_primary:
                return "create bitmap index on primary key not supported"
            if not (held in (DataType.BOOL, DataType.VARCHAR) or held.is_integer):
                tail = (
                    "bool, int, string for array field"
                    if is_array
                    else "bool, int, string and array field"
                )
                return f"bitmap index are only supported on {tail}"
        case "STL_SORT":
            sortable = (DataType.VARCHAR, DataType.TIMESTAMPTZ)
            if not (data_type.is_numeric or data_type in sortable):
                return (
                    "STL_SORT are only supported on numeric, varchar or timestamptz field, "
                    f"got {data_type.milvus_name}"
                )
        case "Trie":
            if data_type is not DataType.VARCHAR:
                return "TRIE are only supported on varchar field"
        case "NGRAM":
            if data_type not in (DataType.VARCHAR, DataType.JSON):
                return "ngram index can only be created on VARCHAR or JSON field"
        case "RTREE":
            if data_type is not DataType.GEOMETRY:
                found = data_type.milvus_name
                return f"RTREE index can only be built on geometry field, got {found}"
    return None


def build_params(index_type: str, field: FieldSchema, given: Mapping[str, str]) -> dict[str, str]:
    """What the index is built with. Raises InvalidParameter and MissingParameter."""
    params = {}
    if field.data_type is DataType.JSON:
        if index_type == "NGRAM":
            _check_ngram_cast(given)
        params = _json_params(field, given)
    if index_type == "NGRAM":
        params |= _ngram_params(given)
    return params


def _check_ngram_cast(given: Mapping[str, str]) -> None:
    cast = given.get("json_cast_type")
    if cast is None:
        raise invalid("JSON field with ngram index must specify json_cast_type")
    if cast.upper() != "VARCHAR":
        raise invalid(f"JSON field with ngram index only supports VARCHAR cast type, got: {cast}")


def _ngram_params(given: Mapping[str, str]) -> dict[str, str]:
    if any(name not in given for name in _GRAMS):
        raise invalid("Ngram index must specify both min_gram and max_gram")
    sizes = []
    for name in _GRAMS:
        try:
            sizes.append(int(given[name]))
        except ValueError:
            raise invalid(
                f"{name} for Ngram index must be an integer, got: {given[name]}"
            ) from None
    low, high = sizes
    if not 0 < low <= high:
        raise invalid(
            f"invalid min_gram or max_gram value for Ngram index, min_gram: {low}, max_gram: {high}"
        )
    return {name: str(size) for name, size in zip(_GRAMS, sizes, strict=True)}


def _json_params(field: FieldSchema, given: Mapping[str, str]) -> dict[str, str]:
    """A JSON index needs a path and the type that its values are read as."""
    cast = given.get("json_cast_type")
    if cast is None:
        raise MissingParameter(
            f"json index must specify cast type, field = {field.name}", "json_cast_type"
        )
    if cast.upper() not in _CAST_TYPES:
        raise InvalidParameter(f"json_cast_type {cast} is not supported")
    function = given.get("json_cast_function")
    if function is not None and function != STRING_TO_DOUBLE:
        raise InvalidParameter(f"json_cast_function {function} is not supported")
    if function is not None and cast.upper() != "DOUBLE":
        raise InvalidParameter(
            f"json_cast_function {function} is not supported for json_cast_type {cast}"
        )
    params = {
        "json_path": json_pointer(field, given.get("json_path") or field.name),
        "json_cast_type": cast.upper(),
    }
    if function is not None:
        params["json_cast_function"] = function
    return params


def json_pointer(field: FieldSchema, text: str) -> str:
    """The JSON pointer of an identifier such as ``meta["a"]["b"]``; of the dynamic field also that
    of a key alone, in quotes or not."""
    try:
        nodes = parse(text)
    except Fault as fault:
        raise InvalidParameter(f"cannot parse identifier: {text}: {fault.reason}") from None
    node = nodes[0]
    if node.kind == "path":
        name, subscripts = node.value
    elif node.kind == "name" or (node.kind == "constant" and isinstance(node.value, str)):
        name, subscripts = node.value, ()
    else:
        name, subscripts = None, ()
    if len(nodes) != 1 or name is None or not (name == field.name or field.is_dynamic):
        raise InvalidParameter(f"cannot parse identifier: {text}, field = {field.name}")
    path = tuple(map(str, subscripts))
    return pointer_of(path if name == field.name else (name, *path))
