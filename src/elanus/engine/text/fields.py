"""The analyzers of a schema's text fields: which one a text gets, and whether they make sense."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from elanus.engine.text.analyzer import Analyzer
from elanus.engine.text.parameters import KEPT_ANALYZERS, analyzer_of, make_analyzer
from elanus.errors import InvalidParameter
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

ENABLE_ANALYZER = "enable_analyzer"
ANALYZER_PARAMS = "analyzer_params"
MULTI_ANALYZER_PARAMS = "multi_analyzer_params"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class MultiAnalyzer:
    """The value of the field ``by_field`` of a row chooses its analyzer; others get the default."""

    by_field: str
    analyzers: Mapping[str, Analyzer]
    aliases: Mapping[str, str]

    def named(self, name: str) -> Analyzer:
        found = self.analyzers.get(self.aliases.get(name, name))
        return found if found is not None else self.analyzers[DEFAULT]


def has_analyzer(field: FieldSchema) -> bool:
    return _is_true(field, ENABLE_ANALYZER)


def analyzer_for(field: FieldSchema, name: str = "") -> Analyzer:
    """The field's analyzer; of several, the one of this name. Raises as ``analyzer_of`` does."""
    several = field.type_params.get(MULTI_ANALYZER_PARAMS)
    if several:
        return multi_analyzer_of(several).named(name)
    return analyzer_of(field.type_params.get(ANALYZER_PARAMS, ""))


@lru_cache(KEPT_ANALYZERS)
def multi_analyzer_of(text: str) -> MultiAnalyzer:
    """Raises InvalidParameter for what isn't a description of several analyzers, Unimplemented
    for a part that is not served."""
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(f"multi analyzer params are not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise InvalidParameter(f"multi analyzer params must be a JSON object, but are {text}")
    by_field, described = parsed.get("by_field"), parsed.get("analyzers")
    aliases = parsed.get("alias", {})
    if not isinstance(by_field, str) or not by_field:
        raise InvalidParameter(
            "multi analyzer params now must set by_field to specify with field decide analyzer"
        )
    if not isinstance(described, dict) or not described:
        raise InvalidParameter("multi analyzer params must set analyzers ")
    if DEFAULT not in described:
        raise InvalidParameter("multi analyzer must set default analyzer for all unknown value")
    if not isinstance(aliases, dict) or not all(isinstance(a, str) for a in aliases.values()):
        raise InvalidParameter(f"multi analyzer alias must map names to names, but is {aliases!r}")
    for name, one in described.items():
        if not isinstance(one, dict):
            raise InvalidParameter(f"analyzer {name} must be a JSON object, but is {one!r}")
    analyzers = {name: make_analyzer(one) for name, one in described.items()}
    return MultiAnalyzer(by_field, analyzers, aliases)


def deciding_field(field: FieldSchema) -> str | None:
    """The name of the field that chooses the analyzer of each row; None if there is one analyzer.
    Of a field whose parameters have been checked."""
    several = field.type_params.get(MULTI_ANALYZER_PARAMS)
    return str(orjson.loads(several)["by_field"]) if several else None


def check_text_fields(fields: Sequence[FieldSchema]) -> None:
    """Raises InvalidParameter for fields whose parameters of text contradict each other."""
    for field in fields:
        if field.enable_match and not has_analyzer(field):
            raise InvalidParameter(
                f"field {field.name} which has enable_match or is input of BM25 function "
                "must also enable_analyzer"
            )
        if not has_analyzer(field):
            continue
        if field.data_type is not DataType.VARCHAR:
            raise InvalidParameter(
                f"field {field.name} with enable_analyzer must be a VarChar, "
                f"but is {field.data_type.milvus_name}"
            )
        if field.type_params.get(MULTI_ANALYZER_PARAMS):
            _check_several(field)


def check_analyzers(schema: CollectionSchema) -> None:
    """Make the analyzers of every field: dictionaries are read, so call it in a thread. Raises
    InvalidParameter or Unimplemented for one that can't be."""
    for field in schema.fields:
        if not has_analyzer(field):
            continue
        several = field.type_params.get(MULTI_ANALYZER_PARAMS)
        if several:
            _check_deciding_field(multi_analyzer_of(several).by_field, schema)
        else:
            analyzer_for(field)


def _check_several(field: FieldSchema) -> None:
    if field.type_params.get(ANALYZER_PARAMS):
        raise InvalidParameter(
            f"field {field.name} analyzer params should be none if has multi analyzer params"
        )
    if field.enable_match:
        raise InvalidParameter(
            f"multi analyzer now only support for bm25, but now field {field.name} enable match"
        )


def _check_deciding_field(by_field: str, schema: CollectionSchema) -> None:
    decisive = schema.by_name.get(by_field)
    if decisive is None:
        raise InvalidParameter(
            f'multi analyzer dependent field "{by_field}" not exist in collection {schema.name}'
        )
    if decisive.data_type is not DataType.VARCHAR:
        raise InvalidParameter(
            "multi analyzer params now only support by string field, "
            f"but field {by_field} is not string"
        )


def _is_true(field: FieldSchema, key: str) -> bool:
    return field.type_params.get(key, "").lower() == "true"
