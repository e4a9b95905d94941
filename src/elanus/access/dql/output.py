"""Which columns a read returns: ``output_fields`` of the user resolved against the schema.

``*`` stands for every field, ``$meta`` for the whole dynamic field; any other name that is not a
field's is a key of the dynamic field, if there is one, also when written ``$meta["key"]``. An array
of structs stands for all its fields, of which one can be had as ``struct[field]``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from elanus.errors import InvalidParameter, Rejected
from elanus.model.catalog import CollectionInfo
from elanus.model.schema import DYNAMIC_FIELD, CollectionSchema
from elanus.model.timestamptz import TimeOutput, parse_parts, zone_of

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_META_KEY = re.compile(r"""\$meta\s*\[\s*(?:"([^"\\]+)"|'([^'\\]+)')\s*\]\Z""")


@dataclass(frozen=True, slots=True)
class Output:
    """fields: the columns to fetch and send, in schema order. shown: the names to echo.
    dynamic_keys: the keys of ``$meta`` to send; None sends whole objects."""

    fields: tuple[str, ...]
    shown: tuple[str, ...]
    dynamic_keys: tuple[str, ...] | None = None


def resolve_output(
    requested: Sequence[str], schema: CollectionSchema, *, with_key: bool = False
) -> Output:
    """``with_key`` adds the primary key, as queries do. Raises Rejected for an unknown name and
    InvalidParameter for one that can't be read."""
    wanted: set[str] = set()
    keys: list[str] = []
    shown: dict[str, None] = {}
    whole_dynamic = False
    for name in map(str.strip, requested):
        if name == "*":
            everything = [f for f in schema.fields if not f.is_function_output]
            wanted.update(f.name for f in everything)
            shown.update(dict.fromkeys(f.struct or f.name for f in everything))
            whole_dynamic = schema.enable_dynamic_field
        elif name in schema.parts_of:
            wanted.update(f.name for f in schema.parts_of[name])
            shown[name] = None
        elif name in schema.by_name:
            if schema.by_name[name].is_function_output:
                raise InvalidParameter(f"not allowed to retrieve raw data of field {name}")
            wanted.add(name)
            shown[name] = None
            whole_dynamic = whole_dynamic or name == DYNAMIC_FIELD
        else:
            key = _dynamic_key(name, schema)
            wanted.add(DYNAMIC_FIELD)
            keys.append(key)
            shown[key] = None
    if with_key:
        wanted.add(schema.primary.name)
        shown.setdefault(schema.primary.name)
    return Output(
        fields=tuple(name for name in schema.by_name if name in wanted),
        shown=tuple(shown),
        dynamic_keys=tuple(dict.fromkeys(keys)) if keys and not whole_dynamic else None,
    )


def time_output(collection: CollectionInfo, zone: str, parts: str) -> TimeOutput:
    """How timestamps are shown, by the request's ``timezone`` and ``time_fields``; without a zone
    by the collection's. Raises Rejected for an unknown zone, InvalidParameter for an unknown part.
    """
    return TimeOutput(zone_of(zone or collection.timezone), parse_parts(parts))


def _dynamic_key(name: str, schema: CollectionSchema) -> str:
    quoted = _META_KEY.match(name)
    key = (quoted.group(1) or quoted.group(2)) if quoted else name
    if not schema.enable_dynamic_field:
        raise Rejected(f"field {name} not exist")
    if not quoted and not _IDENTIFIER.match(name):
        raise InvalidParameter(f"parse output field name failed: {name}")
    return key
