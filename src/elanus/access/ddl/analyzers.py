"""RunAnalyzer: what an analyzer makes of some texts."""

from collections.abc import Sequence
from typing import Any

from elanus.access.context import CallContext
from elanus.access.ddl.lookup import find_collection
from elanus.access.proxy import Proxy
from elanus.engine.text.analyzer import Analyzer, dimension_of
from elanus.engine.text.fields import analyzer_for, has_analyzer
from elanus.engine.text.parameters import analyzer_of
from elanus.errors import InvalidParameter
from elanus.wire.protocol import milvus
from elanus.wire.status import success


async def run_analyzer(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """By the request's parameters, or as a field of a collection does it."""
    texts = [_decoded(text) for text in request.placeholder]
    if request.collection_name:
        analyzers = await _of_field(proxy, request, context)
    else:
        analyzers = [
            await proxy.world.executor.run("compute", analyzer_of, request.analyzer_params)
        ]
    if len(analyzers) == 1:
        analyzers *= len(texts)

    def analyze() -> list[Any]:
        return [
            _result(analyzer, text, request.with_detail, request.with_hash)
            for analyzer, text in zip(analyzers, texts, strict=True)
        ]

    results = await proxy.world.executor.run("compute", analyze)
    return milvus.RunAnalyzerResponse(status=success(), results=results)


async def _of_field(proxy: Proxy, request: Any, context: CallContext) -> list[Analyzer]:
    """One analyzer, or one for each text if the request names several."""
    info = await find_collection(proxy, context, request.collection_name)
    field = info.schema.by_name.get(request.field_name)
    if field is None:
        raise InvalidParameter(
            f"field {request.field_name!r} not exist in collection {info.schema.name}"
        )
    if not has_analyzer(field):
        raise InvalidParameter(
            f"analyzer runner for field {field.name} not exist, "
            "now only support run analyzer by field with enable_analyzer"
        )
    named: Sequence[str] = request.analyzer_names or [""]
    if len(named) not in (1, len(request.placeholder)):
        raise InvalidParameter(
            "the number of analyzer names must be 1 or that of the texts",
            expected=f"{len(request.placeholder)}",
            actual=f"{len(named)}",
        )

    def make() -> list[Analyzer]:
        return [analyzer_for(field, name) for name in named]

    return await proxy.world.executor.run("compute", make)


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise InvalidParameter(f"a text is not UTF-8: {error}") from None


def _result(analyzer: Analyzer, text: str, with_detail: bool, with_hash: bool) -> Any:
    tokens = []
    for token in analyzer.detailed(text):
        message = milvus.AnalyzerToken(token=token.text)
        if with_detail:
            message.start_offset, message.end_offset = token.start, token.end
            message.position, message.position_length = token.position, token.position_length
        if with_hash:
            message.hash = dimension_of(token.text)
        tokens.append(message)
    return milvus.AnalyzerResult(tokens=tokens)


HANDLERS = {"RunAnalyzer": run_analyzer}
