"""The highlighter of a search: which words are marked in which fields of the hits.

Words come from the text that a BM25 search asks for, and from queries of the highlighter's own for
any field that has an analyzer. The fields are fetched with the hits, whether they are shown or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from elanus.access.proxy import Proxy
from elanus.engine.text.analyzer import Analyzer
from elanus.engine.text.fields import (
    DEFAULT,
    MULTI_ANALYZER_PARAMS,
    analyzer_for,
    deciding_field,
    has_analyzer,
    multi_analyzer_of,
)
from elanus.engine.text.highlight import Marking, fragments
from elanus.errors import InvalidParameter, Unimplemented
from elanus.model.catalog import CollectionInfo
from elanus.model.reads import Hits
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import MetricType
from elanus.wire.placeholders import decode_placeholders
from elanus.wire.protocol import common
from elanus.wire.schema import pairs_to_dict

_LEXICAL = 0
_TEXT_MATCH = "TextMatch"
_TRUE, _FALSE = ("1", "t", "T", "true", "True", "TRUE"), ("0", "f", "F", "false", "False", "FALSE")


@dataclass(frozen=True, slots=True)
class _Words:
    """of_queries: a text for each query of the search, or none. of_all: texts for every hit.
    analyzer: of several that the texts may be read by."""

    field: FieldSchema
    of_queries: tuple[str, ...]
    of_all: tuple[str, ...]
    analyzer: str = ""


@dataclass(frozen=True, slots=True)
class Highlight:
    """What a request wants to have marked. ``columns``: what has to be fetched for it."""

    marking: Marking
    words: tuple[_Words, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        names: list[str] = []
        for one in self.words:
            deciding = deciding_field(one.field)
            names += [one.field.name, *([] if deciding is None else [deciding])]
        return tuple(dict.fromkeys(names))


def parse_highlighter(
    request: Any, collection: CollectionInfo, anns_field: str, metric: MetricType, analyzer: str
) -> Highlight | None:
    """The highlighter of a SearchRequest over ``anns_field``. ``analyzer``: the one that the
    request names. Raises InvalidParameter; Unimplemented for one that is not lexical."""
    if not request.HasField("highlighter"):
        return None
    if request.highlighter.type != _LEXICAL:
        raise Unimplemented("the semantic highlighter is not supported yet")
    params = pairs_to_dict(request.highlighter.params)
    marking = Marking(
        before=_tags(params, "pre_tags", "<em>"),
        after=_tags(params, "post_tags", "</em>"),
        size=_number(params, "fragment_size", 100, least=1),
        lead=_number(params, "fragment_offset", 0),
        most=_number(params, "num_of_fragments", 5),
    )
    searched = None
    if _flag(params, "highlight_search_text"):
        searched = _searched(request, collection.schema, anns_field, metric, analyzer)
    return Highlight(marking, _all_words(searched, _own_queries(params), collection.schema))


def _searched(
    request: Any, schema: CollectionSchema, anns_field: str, metric: MetricType, analyzer: str
) -> _Words:
    if metric is not MetricType.BM25:
        raise InvalidParameter(
            f'Search highlight only support with metric type "BM25" but was: {metric}'
        )
    texts = decode_placeholders(request.placeholder_group).texts()
    return _Words(schema.text_of[anns_field], tuple(texts), (), analyzer)


def _all_words(
    searched: _Words | None, queries: Sequence[tuple[str, str]], schema: CollectionSchema
) -> tuple[_Words, ...]:
    """By field; ``queries``: (field, text)."""
    names = [searched.field.name] if searched else []
    words = []
    for name in dict.fromkeys([*names, *(name for name, _ in queries)]):
        field = schema.by_name.get(name)
        if field is None:
            raise InvalidParameter(f"highlight field not found in schema: {name}")
        if not has_analyzer(field):
            raise InvalidParameter(f"highlight field {name} must have enable_analyzer")
        own = searched if searched and searched.field is field else _Words(field, (), ())
        of_all = tuple(text for other, text in queries if other == name)
        words.append(_Words(field, own.of_queries, of_all, own.analyzer))
    return tuple(words)


async def highlighted(proxy: Proxy, wanted: Highlight, hits: Hits, rows: Any) -> list[Any]:
    """HighlightResult messages: for each field the fragments of each of the ``rows``, which are
    those of the hits, in their order."""

    def mark() -> list[Any]:
        return [_marked(one, wanted.marking, hits, rows) for one in wanted.words]

    messages: list[Any] = await proxy.world.executor.run("search", mark)
    return messages


def _marked(words: _Words, marking: Marking, hits: Hits, rows: Any) -> Any:
    texts = rows.column(words.field.name).to_pylist()
    analyzers = _analyzers(words.field, rows)
    asking = analyzer_for(words.field, words.analyzer)
    of_all = frozenset(token for text in words.of_all for token in asking.tokens(text))
    data, at = [], 0
    for number, count in enumerate(hits.counts.tolist()):
        query = words.of_queries[number] if words.of_queries else ""
        tokens = of_all.union(asking.tokens(query))
        for text, analyzer in zip(texts[at : at + count], analyzers[at : at + count], strict=True):
            found = fragments(text, analyzer, tokens, marking) if text else []
            data.append(common.HighlightData(fragments=found))
        at += count
    return common.HighlightResult(field_name=words.field.name, datas=data)


def _analyzers(field: FieldSchema, rows: Any) -> list[Analyzer]:
    """That of each row."""
    several = field.type_params.get(MULTI_ANALYZER_PARAMS)
    if not several:
        return [analyzer_for(field)] * rows.num_rows
    chooser = multi_analyzer_of(several)
    names = rows.column(chooser.by_field).to_pylist()
    return [chooser.named(name or DEFAULT) for name in names]


# --- parameters ---------------------------------------------------------------------------------


def _tags(params: Mapping[str, str], key: str, default: str) -> tuple[str, ...]:
    if key not in params:
        return (default,)
    tags = _json(params, key)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidParameter(f"{key} must be a list of strings, but is {params[key]}")
    if not tags:
        raise InvalidParameter(f"{key} cannot be empty list")
    return tuple(tags)


def _number(params: Mapping[str, str], key: str, default: int, *, least: int = 0) -> int:
    if key not in params:
        return default
    try:
        number = int(params[key])
    except ValueError:
        number = -1
    if number < least:
        raise InvalidParameter(f"invalid {key}: {params[key]}")
    return number


def _flag(params: Mapping[str, str], key: str) -> bool:
    given = params.get(key, "false")
    if given not in (*_TRUE, *_FALSE):
        raise InvalidParameter(f"{key} must be true or false, but is {given}")
    return given in _TRUE


def _own_queries(params: Mapping[str, str]) -> list[tuple[str, str]]:
    """(field, text) of each."""
    if "highlight_query" not in params:
        return []
    queries = _json(params, "highlight_query")
    if not isinstance(queries, list) or not all(isinstance(query, dict) for query in queries):
        raise InvalidParameter(
            f"highlight_query must be a list of JSON objects, but is {params['highlight_query']}"
        )
    return [_own_query(query) for query in queries]


def _own_query(query: Mapping[str, object]) -> tuple[str, str]:
    found = []
    for key in ("text", "type", "field"):
        if key not in query:
            raise InvalidParameter(f"unmarshal highlight queries failed: must set `{key}` in query")
        value = query[key]
        if not isinstance(value, str):
            raise InvalidParameter(f"unmarshal highlight queries failed: `{key}` must be string")
        found.append(value)
    text, kind, field = found
    if kind != _TEXT_MATCH:
        raise InvalidParameter(
            f"unmarshal highlight queries failed: invalid highlight query type: {kind}",
            expected=_TEXT_MATCH,
            actual=kind,
        )
    return field, text


def _json(params: Mapping[str, str], key: str) -> Any:
    try:
        return orjson.loads(params[key])
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(f"{key} is not JSON: {error}") from None
