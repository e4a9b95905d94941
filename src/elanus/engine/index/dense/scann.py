"""SCANN: rows in lists by the nearest of ``nlist`` centroids, with codes of four bits for each
``sub_dim`` dimensions that are trained to keep the order of the nearest; by the library of that
name.

A search scans the codes of the ``nprobe`` nearest lists and scores the best ``reorder_k`` rows by
their vectors. The library takes no filter: as with a graph, more candidates are asked for, from
more lists, the rarer the survivors are. Its files can't be mapped; codes are a small part of the
vectors (a sixteenth for two dimensions) and are read into memory. They lie in one archive, whose
directory at the end tells a truncated file and whose checksums tell a damaged one.
"""

import json
import math
import os
import tempfile
import zipfile
from typing import Any

import numpy as np

from elanus.engine.index.dense.faiss_files import check_size
from elanus.engine.index.dense.family import (
    PIECE_ROWS,
    DenseIndex,
    Expected,
    Source,
)
from elanus.engine.index.dense.ivf import DEFAULT_NPROBE, lists_for
from elanus.engine.index.dense.neighbours import Floats, Ints, Neighbours
from elanus.engine.strategy import Candidates, Search, search_by_walks
from elanus.errors import CorruptData
from elanus.model.types import MetricType

DEFAULT_SUB_DIM = 2
MIN_ROWS = 64
"""Fewer can't train codes: an index over them is empty, and searches scan."""
TRAINING_ROWS = 100_000
ANISOTROPY = 0.2
"""Errors along a vector, which change its products with queries near it, count more than others."""
REORDERED_MORE = 9
REORDERED_MORE_AT_MOST = 500
"""Rows that are scored for each hit wanted beside it, unless the user says how many."""
LISTS_POWER = 0.3
"""Lists for candidates down to rank r as for the nearest k: nprobe · (r / k) ** 0.3."""
CANDIDATES_PER_ROW = 0.5
"""Candidates asked for are at most this part of the rows in the lists."""

CALL_COST = 40_000.0
"""Of a search, ns; then of a centroid and a code of 100 dimensions, and of a candidate."""
CENTROID_COST = 4.0
CODE_COST = 2.5
CANDIDATE_COST = 100.0

_DESCRIPTION = "elanus.json"
_ASSETS = "scann_assets.pbtxt"


class ScannIndex(DenseIndex):
    """See the module. ``searcher``: None of an index over few rows."""

    def __init__(self, expected: Expected, searcher: Any, nlist: int, size_bytes: int) -> None:
        super().__init__(expected, size_bytes)
        self.searcher = searcher
        self.nlist = nlist
        self.nprobe = _usual_lists(expected, nlist)

    @classmethod
    def build(cls, index_type: str, source: Source, out_path: str) -> None:
        nlist = lists_for(source)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(out_path) or None) as folder:
            if source.row_count >= MIN_ROWS:
                _trained(source, nlist).serialize(folder, True)
            described = {
                "metric": source.metric.value,
                "rows": source.row_count,
                "dim": source.dim,
                "nlist": nlist,
            }
            with zipfile.ZipFile(out_path, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_DESCRIPTION, json.dumps(described))
                for name in sorted(os.listdir(folder)):
                    archive.write(os.path.join(folder, name), name)

    @classmethod
    def open(cls, path: str, expected: Expected) -> "ScannIndex":
        try:
            with zipfile.ZipFile(path) as archive:
                described = json.loads(archive.read(_DESCRIPTION))
                if described["metric"] != expected.metric.value:
                    raise CorruptData(
                        f"index file {path} was not built for the metric {expected.metric}"
                    )
                check_size(path, expected, described["rows"], described["dim"])
                searcher = _opened(archive)
        except (OSError, RuntimeError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise CorruptData(f"index file {path} can't be opened: {error}") from error
        return cls(expected, searcher, int(described["nlist"]), os.path.getsize(path))

    def find(self, search: Search) -> Neighbours:
        if self.searcher is None:
            return search.exact(np.arange(len(search.queries)))
        more = min(REORDERED_MORE * search.top_k, REORDERED_MORE_AT_MOST)
        wanted = max(int(search.number("reorder_k", search.top_k + more)), search.top_k)
        return search_by_walks(search, _Walk(self, search, min(wanted, self.row_count)))


class _Walk(Candidates):
    are_exact = False

    def __init__(self, index: ScannIndex, search: Search, wanted: int) -> None:
        self.wanted = wanted
        self._index = index
        self._nprobe = int(search.number("nprobe", index.nprobe))
        self._rows_per_list = index.row_count / index.nlist
        self._scale = max(index.dim, 16) / 100

    def depth_for(self, rank: float) -> int:
        return math.ceil(rank if rank <= self.wanted else 1.2 * rank)

    def cost(self, depth: float) -> float:
        coded = self._lists(depth) * self._rows_per_list
        scanned = self._index.nlist * CENTROID_COST + coded * CODE_COST
        return CALL_COST + scanned * self._scale + depth * CANDIDATE_COST

    def _lists(self, depth: float) -> int:
        deep = self._nprobe * max(1.0, depth / self.wanted) ** LISTS_POWER
        enough = depth / (CANDIDATES_PER_ROW * self._rows_per_list)
        lists: int = min(math.ceil(max(deep, enough)), self._index.nlist)
        return lists

    def walk(self, queries: Floats, size: int, depth: int) -> tuple[Floats, Ints]:
        lists, searcher = self._lists(max(depth, size)), self._index.searcher
        if len(queries) == 1:
            found, scores = searcher.search(queries[0], size, -1, lists)
            found, scores = found[None], scores[None]
        else:
            found, scores = searcher.search_batched(queries, size, -1, lists, False, 0)
        labels = found.astype(np.int64)
        if labels.shape[1] < size:
            lacking = ((0, 0), (0, size - labels.shape[1]))
            labels = np.pad(labels, lacking, constant_values=-1)
            scores = np.pad(scores, lacking, constant_values=np.nan)
        if _has_gaps(scores):
            labels[np.isnan(scores)] = -1
        return (-scores if self._index.metric is MetricType.L2 else scores), labels


def _has_gaps(scores: Floats) -> bool:
    """Whether some query found fewer rows than asked for: the last of its scores are no numbers."""
    if len(scores) == 1:
        return math.isnan(scores.item(-1))
    return bool(np.isnan(scores[:, -1]).any())


def _usual_lists(expected: Expected, nlist: int) -> int:
    """Lists that a search looks into unless it says how many. An index may have been built with a
    number of its own, which is a part of the lists that it asked for: there may be fewer."""
    asked = int(expected.params.get("nlist", nlist))
    own = int(expected.params.get("nprobe", DEFAULT_NPROBE))
    if "nprobe" not in expected.params or nlist >= asked:
        return own
    return max(math.ceil(own * nlist / asked), min(DEFAULT_NPROBE, nlist))


def _library() -> Any:
    """Loaded when first used: it takes a while, and many servers have no such index."""
    from scann import scann_ops_pybind

    return scann_ops_pybind


def _trained(source: Source, nlist: int) -> Any:
    vectors = np.empty((source.row_count, source.dim), np.float32)
    for number, piece in enumerate(source.pieces()):
        vectors[number * PIECE_ROWS : number * PIECE_ROWS + len(piece)] = piece
    is_l2 = source.metric is MetricType.L2
    builder = _library().builder(vectors, 10, "squared_l2" if is_l2 else "dot_product")
    builder.tree(
        num_leaves=nlist,
        num_leaves_to_search=min(DEFAULT_NPROBE, nlist),
        training_sample_size=min(source.row_count, TRAINING_ROWS),
    )
    builder.score_ah(
        source.number("sub_dim", DEFAULT_SUB_DIM),
        anisotropic_quantization_threshold=math.nan if is_l2 else ANISOTROPY,
    )
    builder.set_n_training_threads(source.threads)
    return builder.build().searcher


def _opened(archive: zipfile.ZipFile) -> Any:
    names = [name for name in archive.namelist() if name != _DESCRIPTION]
    if not names:
        return None
    with tempfile.TemporaryDirectory(prefix="elanus-scann-") as folder:
        for name in names:
            archive.extract(name, folder)
        with open(os.path.join(folder, _ASSETS), encoding="utf-8") as assets:
            return _library().scann_pybind.ScannNumpy(folder, assets.read())
