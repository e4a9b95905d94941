"""Trying analyzers."""

from typing import Any

from elanus.access.rest.call import RestCall
from elanus.rows.texts import as_text


async def run_analyzer(call: RestCall) -> dict[str, Any]:
    body = call.body
    response = await call.rpc(
        "RunAnalyzer",
        placeholder=[text.encode() for text in body.required_texts("text")],
        analyzer_params=as_text(body.get("analyzerParams") or ""),
        collection_name=body.text("collectionName"),
        field_name=body.text("fieldName"),
        analyzer_names=body.texts("analyzerNames"),
        with_detail=body.flag("withDetail"),
        with_hash=body.flag("withHash"),
    )
    return {"data": {"results": [{"tokens": _tokens(result)} for result in response.results]}}


def _tokens(result: Any) -> list[dict[str, Any]]:
    return [
        {
            "token": token.token,
            "startOffset": token.start_offset,
            "endOffset": token.end_offset,
            "position": token.position,
            "positionLength": token.position_length,
            "hash": token.hash,
        }
        for token in result.tokens
    ]


ROUTES = {"common/run_analyzer": run_analyzer}
