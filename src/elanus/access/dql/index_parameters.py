"""Search parameters of vector indexes: which there are, their ranges, and Milvus's texts.

They are checked here, for every search, and not by the segments: an answer must not depend on
whether the rows are indexed yet. Parameters that the index does not know are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elanus.errors import Rejected

INT32_MAX = 2**31 - 1
FLOAT_MAX = 3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class _Parameter:
    """``covers_top_k``: the value must reach k, unless bounds decide what is found. ``is_open``:
    ``high`` itself is too much, ``is_positive``: 0 is too little."""

    name: str
    low: float
    high: float
    is_integer: bool = True
    covers_top_k: bool = False
    is_open: bool = False
    is_positive: bool = False

    def allows(self, value: float) -> bool:
        if (self.is_open and value == self.high) or (self.is_positive and value <= 0):
            return False
        return self.low <= value <= self.high


_NPROBE = _Parameter("nprobe", 1, 65536)
_REFINE_K = _Parameter("refine_k", 1, FLOAT_MAX, is_integer=False)
_EF = _Parameter("ef", 1, INT32_MAX, covers_top_k=True)
_IVF = (_NPROBE, _Parameter("max_empty_result_buckets", 1, 65536), _REFINE_K)
_HNSW = (_EF, _REFINE_K)
_SPARSE = (
    _Parameter("drop_ratio_search", 0, 1, is_integer=False, is_open=True),
    _Parameter("refine_factor", 1, INT32_MAX),
    _Parameter("dim_max_score_ratio", 0.5, 1.3, is_integer=False),
    _Parameter("bm25_k1", 0, 3, is_integer=False),
    _Parameter("bm25_b", 0, 1, is_integer=False),
)
_PARAMETERS: dict[str, tuple[_Parameter, ...]] = {
    "BIN_IVF_FLAT": (_NPROBE,),
    "SPARSE_INVERTED_INDEX": _SPARSE,
    "SPARSE_WAND": _SPARSE,
    "IVF_FLAT": _IVF,
    "IVF_SQ8": _IVF,
    "IVF_PQ": _IVF,
    "IVF_RABITQ": (*_IVF, _Parameter("rbq_bits_query", 0, 8)),
    "HNSW": _HNSW,
    "HNSW_SQ": _HNSW,
    "HNSW_PQ": _HNSW,
    "HNSW_PRQ": _HNSW,
    "SCANN": (_NPROBE, _Parameter("reorder_k", 1, INT32_MAX, covers_top_k=True)),
    "DISKANN": (
        _Parameter("search_list", 1, INT32_MAX, covers_top_k=True),
        _Parameter("search_list_size", 1, INT32_MAX, covers_top_k=True),
    ),
}
_LISTS = (_Parameter("retrieval_ann_ratio", 0, FLOAT_MAX, is_integer=False, is_positive=True),)
_SHOWN_NAMES = {"search_list": "search_list_size"}


def check_index_parameters(
    index_type: str,
    given: Mapping[str, Any],
    *,
    top_k: int,
    unbounded: bool,
    of_lists: bool = False,
) -> dict[str, int | float | str]:
    """The parameters that an index of ``index_type`` uses, over vectors or lists of them, typed.

    unbounded: False for range searches and iterators, whose ``top_k`` may exceed ef and its like.
    Raises Rejected.
    """
    checked: dict[str, int | float | str] = {}
    known = _PARAMETERS.get(index_type, ())
    for parameter in (*known, *_LISTS) if of_lists else known:
        if parameter.name not in given:
            continue
        value = _typed(parameter, given[parameter.name])
        if not parameter.allows(value):
            raise Rejected(_out_of_range(parameter, value))
        if parameter.covers_top_k and unbounded and value < top_k:
            shown = _SHOWN_NAMES.get(parameter.name, parameter.name)
            raise Rejected(f"{shown}({value}) should be larger than k({top_k})")
        checked[parameter.name] = value
    return checked


def _typed(parameter: _Parameter, value: Any) -> int | float:
    """Text that is a number counts as one."""
    if isinstance(value, str):
        try:
            return int(value) if parameter.is_integer else float(value)
        except ValueError as error:
            raise Rejected(_conflict(parameter, value)) from error
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and not parameter.is_integer:
        return value
    raise Rejected(_conflict(parameter, value))


def _conflict(parameter: _Parameter, value: Any) -> str:
    kind = "integer" if parameter.is_integer else "a number"
    return f"Type conflict in json: param '{parameter.name}' ({value}) should be {kind}"


def _out_of_range(parameter: _Parameter, value: float) -> str:
    if parameter.is_integer:
        bounds = f"[{int(parameter.low)}, {int(parameter.high)}]"
    else:
        bounds = f"[{parameter.low:.6f}, {parameter.high:.6f}{')' if parameter.is_open else ']'}"
    return f"Out of range in json: param '{parameter.name}' ({value}) should be in range {bounds}"
