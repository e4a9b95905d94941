"""How a hybrid search fuses its lists: ``rank_params`` or a function score, checked and typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elanus.access.dql import pairs as kv
from elanus.access.dql import parameters
from elanus.access.dql.group_by import GroupBy, parse_group_by
from elanus.config.settings import LimitsSettings
from elanus.engine.rank import DEFAULT_RRF_K, ReciprocalRank, Weighted
from elanus.engine.rank_groups import GroupScorer
from elanus.errors import InvalidParameter, Rejected, Unimplemented
from elanus.wire.schema import pairs_to_dict

RERANK_FUNCTION = 3
MAX_K = 16_384
_UNSUPPORTED = ("order_by_fields",)


@dataclass(frozen=True, slots=True)
class RankParameters:
    """``limit`` rows (groups if there is a ``group_by``) after the first ``offset`` of the fused
    list."""

    ranker: ReciprocalRank | Weighted
    limit: int
    offset: int
    round_decimal: int
    group_by: GroupBy | None = None
    scorer: GroupScorer = GroupScorer.MAX


def parse_rank(
    given: Mapping[str, str], function_score: Any, limits: LimitsSettings, *, requests: int
) -> RankParameters:
    """``given``: rank_params of a hybrid search of ``requests`` sub-requests; ``function_score``:
    its FunctionScore message, which wins if it has a function."""
    kv.refuse(given, _UNSUPPORTED, "hybrid search")
    text = given.get("limit")
    if text is None:
        raise Rejected("limit not found in rank_params")
    limit = kv.read_int(text, f"limit [{text}] is invalid")
    parameters.check_window("limit", limit, limits.top_k)
    offset = parameters.parse_offset(given, limits.top_k)
    if offset:
        parameters.check_window("offset+limit", limit + offset, limits.top_k)
    if function_score.functions:
        strategy, params = _function(function_score)
    else:
        strategy = given.get("strategy") or "rrf"
        if strategy not in ("rrf", "weighted"):
            raise Rejected(f"unsupported rank type {strategy}")
        params = _params(given)
    return RankParameters(
        ranker=_ranker(strategy, params, requests),
        limit=limit,
        offset=offset,
        round_decimal=parameters.parse_round_decimal(given),
        group_by=parse_group_by(given, limits.max_group_size),
        scorer=_scorer(given.get("rank_group_scorer", GroupScorer.MAX)),
    )


def _scorer(name: str) -> GroupScorer:
    try:
        return GroupScorer(name)
    except ValueError as error:
        raise InvalidParameter(f"input group scorer type: {name} is not supported!") from error


def _params(given: Mapping[str, str]) -> dict[str, Any]:
    text = given.get("params")
    if text is None:
        if "strategy" in given:
            raise Rejected("params not found in rank_params")
        return {}
    return kv.read_object(text, "params")


def _function(function_score: Any) -> tuple[str, dict[str, Any]]:
    """The reranker and its parameters out of a FunctionScore message."""
    if len(function_score.functions) > 1:
        raise Rejected("Currently only supports one rerank")
    function = function_score.functions[0]
    if function.type != RERANK_FUNCTION:
        raise Rejected(f"{function.name} is not a rerank function")
    if function.output_field_names:
        count = len(function.output_field_names)
        raise Rejected(f"Rerank function should not have output field, but now is {count}")
    given = pairs_to_dict(function.params)
    name = given.get("reranker", "").lower()
    if name in ("decay", "model", "boost"):
        raise Unimplemented(f"the reranker {name} is not supported yet: service unimplemented")
    if name not in ("rrf", "weighted"):
        raise Rejected(
            f"Unsupported rerank function: [{name}] , list of supported [decay,model,rrf,weighted]"
        )
    return name, {key: kv.read_loose(value) for key, value in given.items()}


def _ranker(strategy: str, params: Mapping[str, Any], requests: int) -> ReciprocalRank | Weighted:
    return _reciprocal(params) if strategy == "rrf" else _weighted(params, requests)


def _reciprocal(params: Mapping[str, Any]) -> ReciprocalRank:
    k = params.get("k", DEFAULT_RRF_K)
    if isinstance(k, bool) or not isinstance(k, int | float):
        raise Rejected("The type of rank param k should be float")
    if not 0 < k < MAX_K:
        raise Rejected(f"The rank params k should be in range (0, {MAX_K})")
    return ReciprocalRank(float(k))


def _weighted(params: Mapping[str, Any], requests: int) -> Weighted:
    weights = params.get("weights")
    if not isinstance(weights, list):
        raise Rejected("The weights param should be an array")
    if len(weights) != requests:
        raise InvalidParameter(
            "the length of weights param mismatch with ann search requests",
            expected=str(requests),
            actual=str(len(weights)),
        )
    for weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise Rejected("The type of rank param weight should be float")
        if not 0 <= weight <= 1:
            raise Rejected("rank param weight should be in range [0, 1]")
    normalise = params.get("norm_score", False)
    if not isinstance(normalise, bool):
        raise Rejected("Weighted rerank err, norm_score should been bool type")
    return Weighted(tuple(map(float, weights)), normalise)
