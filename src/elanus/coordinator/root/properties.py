"""Properties of databases, collections and fields: which changes are allowed, and their texts."""

import msgspec

from elanus.errors import InvalidParameter, Rejected
from elanus.model.quotas import check_quota_properties
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.timestamptz import zone_of
from elanus.model.types import DataType

MAX_TTL_SECONDS = 3_155_760_000
MAX_ARRAY_CAPACITY = 4_096
TTL = "collection.ttl.seconds"
TIMEZONE = "timezone"
DYNAMIC_FIELD_ENABLED = "dynamicfield.enabled"
DESCRIPTION = "collection.description"
PARTITION_KEY_ISOLATION = "partitionkey.isolation"
ALLOW_INSERT_AUTO_ID = "allow_insert_auto_id"
FIELD_DESCRIPTION = "field.description"

_FIELD_KEYS = ("max_length", "max_capacity", "mmap.enabled", "mmap_enabled", FIELD_DESCRIPTION)


def changed_properties(
    old: dict[str, str], properties: dict[str, str], delete_keys: list[str]
) -> dict[str, str]:
    """``old`` with some set or some deleted, but not both in one request."""
    if properties and delete_keys:
        raise InvalidParameter("cannot provide both DeleteKeys and ExtraParams")
    if not properties and not delete_keys:
        raise InvalidParameter("no properties or delete keys provided")
    merged = {**old, **properties}
    return {key: value for key, value in merged.items() if key not in delete_keys}


def is_mapping_key(key: str) -> bool:
    """Keys that say how data is brought into memory; they can't change while it is loaded."""
    return key in ("mmap.enabled", "mmap_enabled", "lazyload.enabled") or key.startswith("warmup")


def check_collection_properties(schema: CollectionSchema, properties: dict[str, str]) -> None:
    """Raises Rejected or InvalidParameter for a value that can't be."""
    check_quota_properties(properties)
    ttl = properties.get(TTL)
    if ttl is not None:
        try:
            fits = -1 <= int(ttl) <= MAX_TTL_SECONDS
        except ValueError:
            fits = False
        if not fits:
            raise Rejected(
                f"collection TTL is out of range, expect [-1, {MAX_TTL_SECONDS}], got {ttl}"
            )
    zone = properties.get(TIMEZONE)
    if zone is not None:
        zone_of(zone)
    isolation = properties.get(PARTITION_KEY_ISOLATION, "false").lower() == "true"
    if isolation and schema.partition_key is None:
        raise Rejected(
            "partition key isolation mode is enabled but no partition key field is set. "
            "Please set the partition key first"
        )
    if ALLOW_INSERT_AUTO_ID in properties:
        value = properties[ALLOW_INSERT_AUTO_ID]
        if value.lower() not in ("true", "false"):
            raise InvalidParameter(f"the value for {ALLOW_INSERT_AUTO_ID} must be a boolean")
        if value.lower() == "true" and not schema.primary.auto_id:
            raise InvalidParameter(
                f"{ALLOW_INSERT_AUTO_ID} needs a primary key field with auto id, "
                f"collection: {schema.name}"
            )


def altered_field(
    field: FieldSchema, properties: dict[str, str], delete_keys: list[str], max_var_char_length: int
) -> FieldSchema:
    """``field`` after AlterCollectionField. Raises InvalidParameter or Rejected."""
    for key in [*properties, *delete_keys]:
        if key not in _FIELD_KEYS and not key.startswith("warmup"):
            raise InvalidParameter(f"{key} does not allow update in collection field param")
    holds_text = DataType.VARCHAR in (field.data_type, field.element_type)
    if "max_length" in properties:
        if not holds_text:
            raise InvalidParameter(
                f"{field.name} can not modify the maxlength for non-string types"
            )
        _check_number(
            properties["max_length"],
            max_var_char_length,
            f"the maximum length specified for the field({field.name}) should be in "
            f"(0, {max_var_char_length}], but got {properties['max_length']} instead",
        )
    if "max_capacity" in properties:
        if field.data_type is not DataType.ARRAY:
            raise InvalidParameter(
                f"{field.name} can not modify the max_capacity for non-array types"
            )
        _check_number(
            properties["max_capacity"],
            MAX_ARRAY_CAPACITY,
            f"the maximum capacity specified for a Array should be in (0, {MAX_ARRAY_CAPACITY}]",
        )
    settings = {
        "mmap.enabled" if key == "mmap_enabled" else key: value
        for key, value in properties.items()
        if key != FIELD_DESCRIPTION
    }
    deleted = ["mmap.enabled" if key == "mmap_enabled" else key for key in delete_keys]
    type_params = {k: v for k, v in {**field.type_params, **settings}.items() if k not in deleted}
    description = properties.get(FIELD_DESCRIPTION, field.description)
    return msgspec.structs.replace(field, type_params=type_params, description=description)


def _check_number(text: str, largest: int, message: str) -> None:
    try:
        fits = 0 < int(text) <= largest
    except ValueError:
        fits = False
    if not fits:
        raise InvalidParameter(message)
