"""SCANN: rows in lists by the nearest of ``nlist`` centroids, with codes of four bits for each
``sub_dim`` dimensions that are trained to keep the order of the nearest; by the library of that
name.

A search scans these codes in the ``nprobe`` nearest lists and ranks the best ``reorder_k`` rows by
a finer code of a byte for each dimension; only the first few of them are scored by their vectors,
which lie far apart in the segment's column. Rows that bytes don't tell apart get no finer code:
then all ``reorder_k`` are scored by vectors. So it is in files that say nothing of finer codes,
which the first version of this module wrote.

The library takes no filter: as with a graph, more candidates are asked for, from more lists, the
rarer the survivors are. Its files can't be mapped; codes are a part of the vectors (a sixteenth
for two dimensions, and a quarter) and are read into memory. They lie in one archive, whose
directory at the end tells a truncated file and whose checksums tell a damaged one. It also says in
which form the library has the vectors (``scann_view``).

Rows that are spread so oddly that no form has codes which choose well (``scann_training``) get the
file of an IVF_FLAT instead, with as many lists, which is mapped and takes the same ``nprobe``.
"""

import json
import math
import os
import tempfile
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np

from elanus.engine.index.base import Nearest, VectorColumn
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.faiss_files import check_size
from elanus.engine.index.dense.family import DenseIndex, Expected, Source
from elanus.engine.index.dense.ivf import IvfIndex, lists_for, usual_lists
from elanus.engine.index.dense.nearest import Ranked, ranking
from elanus.engine.index.dense.neighbours import Floats, Ints, Neighbours
from elanus.engine.index.dense.scann_training import library, scored_for, train
from elanus.engine.index.dense.scann_view import View
from elanus.engine.index.library import ROOM_SIZE, query_in_room
from elanus.engine.strategy import Candidates, Search, search_by_walks
from elanus.errors import CorruptData
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

MIN_ROWS = 64
"""Fewer can't train codes: an index over them is empty, and searches scan."""
REORDERED_MORE = 9
REORDERED_MORE_AT_MOST = 500
"""Rows that are ranked for each hit wanted beside it, unless the user says how many."""
LISTS_POWER = 0.3
"""Lists for candidates down to rank r as for the nearest k: nprobe · (r / k) ** 0.3."""
CANDIDATES_PER_ROW = 0.5
"""Candidates asked for are at most this part of the rows in the lists."""

CALL_COST = 40_000.0
"""Of a search, ns; then of a centroid, a code and a finer code of 100 dimensions, and of a row that
comes back."""
CENTROID_COST = 4.0
CODE_COST = 2.5
FINE_CODE_COST = 40.0
CANDIDATE_COST = 100.0

_DESCRIPTION = "elanus.json"
_ASSETS = "scann_assets.pbtxt"
_VECTORS_MARK = b"elanus: SCANN without codes"
"""At the end of such a file, where the library of IVF_FLAT doesn't look."""
LISTS_OF_VECTORS = "IVF_FLAT"
"""What is built where codes don't choose well."""


class ScannIndex(DenseIndex):
    """See the module. ``searcher``: None of an index over few rows. ``view``: how the
    library knows vectors."""

    def __init__(
        self,
        expected: Expected,
        searcher: Any,
        nlist: int,
        has_fine_codes: bool,
        size_bytes: int,
        view: View,
    ) -> None:
        super().__init__(expected, size_bytes)
        self.searcher = searcher
        self.view = view
        self.nlist = nlist
        self.has_fine_codes = has_fine_codes
        self.nprobe = usual_lists(expected, nlist)

    @classmethod
    def build(cls, index_type: str, source: Source, out_path: str) -> None:
        nlist, view, has_fine_codes = lists_for(source), View.plain(source.metric), False
        with tempfile.TemporaryDirectory(dir=os.path.dirname(out_path) or None) as folder:
            if source.row_count >= MIN_ROWS:
                trained = train(source, nlist)
                if trained is None:
                    IvfIndex.build(LISTS_OF_VECTORS, source, out_path)
                    with open(out_path, "ab") as file:
                        file.write(_VECTORS_MARK)
                    return
                view, has_fine_codes = trained.view, trained.has_fine_codes
                trained.searcher.serialize(folder, True)
            described = {
                "metric": source.metric.value,
                "rows": source.row_count,
                "dim": source.dim,
                "nlist": nlist,
                "fine_codes": has_fine_codes,
                **view.described(),
            }
            with zipfile.ZipFile(out_path, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_DESCRIPTION, json.dumps(described))
                for name in sorted(os.listdir(folder)):
                    archive.write(os.path.join(folder, name), name)

    @classmethod
    def open(cls, path: str, expected: Expected) -> DenseIndex:
        if _holds_vectors(path):
            return IvfIndex.open(path, replace(expected, index_type=LISTS_OF_VECTORS))
        try:
            with zipfile.ZipFile(path) as archive:
                described = json.loads(archive.read(_DESCRIPTION))
                if described["metric"] != expected.metric.value:
                    raise CorruptData(
                        f"index file {path} was not built for the metric {expected.metric}"
                    )
                check_size(path, expected, described["rows"], described["dim"])
                searcher = _opened(archive)
                view = View.of(described, expected.metric)
        except (OSError, RuntimeError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise CorruptData(f"index file {path} can't be opened: {error}") from error
        nlist, has_fine_codes = int(described["nlist"]), bool(described.get("fine_codes", False))
        return cls(expected, searcher, nlist, has_fine_codes, os.path.getsize(path), view)

    def find(self, search: Search) -> Neighbours:
        if self.searcher is None:
            return search.exact(np.arange(len(search.queries)))
        walk = self._walk(search.top_k, search.params.get("nprobe"), search.params.get("reorder_k"))
        return search_by_walks(search, walk)

    def nearest(self, column: VectorColumn, query: VectorQuery) -> Nearest | None:
        block = column.whole(self.metric) if isinstance(column, DenseColumn) else None
        rank = None if block is None else ranking(block, self.metric, query.top_k)
        walk = self._usual_walk(query)
        if rank is None or walk is None:
            return None
        search, wanted, ranked, lists = self.searcher.search, walk.wanted, walk.ranked, walk.lists
        view, is_cosine = self.view, self.metric is MetricType.COSINE

        def nearest(vectors: Floats) -> Ranked | None:
            asked = query_in_room(vectors, is_cosine)
            if asked is None:
                return None
            if not view.is_plain:
                asked = view.queries(asked[None])[0]
            found, ranks = search(asked, wanted, ranked, lists)
            if len(found) < wanted or math.isnan(ranks.item(-1)):
                return None
            return rank(found)

        return nearest

    def _usual_walk(self, query: VectorQuery) -> "_Walk | None":
        """The first walk for one query without a filter; None if a scan costs less."""
        top_k, asked = query.top_k, query.params
        if self.searcher is None or top_k > self.row_count:
            return None
        walk = self._walk(top_k, asked.get("nprobe"), asked.get("reorder_k"))
        fits = top_k < walk.wanted <= ROOM_SIZE
        return walk if fits and self.beats_scan(walk.wanted, walk.cost(walk.wanted)) else None

    def _walk(self, top_k: int, nprobe: Any, reorder_k: Any) -> "_Walk":
        """nprobe, reorder_k: as the user gave them, or None."""
        ranked = ranked_for(top_k) if reorder_k is None else int(reorder_k)
        ranked = min(max(ranked, top_k), self.row_count)
        return _Walk(self, top_k, self.nprobe if nprobe is None else int(nprobe), ranked)


class _Walk(Candidates):
    """candidates: by codes, of which the ``wanted`` best are to be scored where there is no filter.
    ranked, lists: what the library is asked for then."""

    are_exact = False

    def __init__(self, index: ScannIndex, top_k: int, nprobe: int, candidates: int) -> None:
        self._index = index
        self._candidates = candidates
        self._nprobe = nprobe
        self._rows_per_list = index.row_count / index.nlist
        self._scale = max(index.dim, 16) / 100
        self.wanted = min(candidates, scored_for(top_k)) if index.has_fine_codes else candidates
        self.lists = self._lists_for(self.wanted)
        self.ranked = self._ranked_for(self.wanted)

    def depth_for(self, rank: float) -> int:
        return math.ceil(rank if rank <= self.wanted else 1.2 * rank)

    def cost(self, depth: float) -> float:
        coded = self._lists_for(depth) * self._rows_per_list
        scanned = self._index.nlist * CENTROID_COST + coded * CODE_COST
        if self._index.has_fine_codes:
            scanned += self._candidates_for(depth) * FINE_CODE_COST
        return CALL_COST + scanned * self._scale + depth * CANDIDATE_COST

    def _candidates_for(self, depth: float) -> int:
        """By codes, of which the best ``depth`` come back: for each of them as many as where there
        is no filter."""
        return min(math.ceil(depth * self._candidates / self.wanted), self._index.row_count)

    def _ranked_for(self, depth: int) -> int:
        """Candidates by codes, as the library wants them: -1 without finer codes."""
        return self._candidates_for(depth) if self._index.has_fine_codes else -1

    def _lists_for(self, depth: float) -> int:
        deep = self._nprobe * max(1.0, depth / self.wanted) ** LISTS_POWER
        enough = self._candidates_for(depth) / (CANDIDATES_PER_ROW * self._rows_per_list)
        lists: int = min(math.ceil(max(deep, enough)), self._index.nlist)
        return lists

    def walk(self, queries: Floats, size: int, depth: int) -> tuple[Floats, Ints]:
        searcher, queries = self._index.searcher, self._index.view.queries(queries)
        deep = max(depth, size)
        lists, ranked = self._lists_for(deep), self._ranked_for(deep)
        if len(queries) == 1:
            found, scores = searcher.search(queries[0], size, ranked, lists)
            found, scores = found[None], scores[None]
        else:
            found, scores = searcher.search_batched(queries, size, ranked, lists, False, 0)
        labels = found.astype(np.int64)
        if labels.shape[1] < size:
            lacking = ((0, 0), (0, size - labels.shape[1]))
            labels = np.pad(labels, lacking, constant_values=-1)
            scores = np.pad(scores, lacking, constant_values=np.nan)
        if _has_gaps(scores):
            labels[np.isnan(scores)] = -1
        return (-scores if self._index.view.by_distance else scores), labels


def ranked_for(top_k: int) -> int:
    """Candidates by codes, unless the user says how many."""
    return top_k + min(REORDERED_MORE * top_k, REORDERED_MORE_AT_MOST)


def _has_gaps(scores: Floats) -> bool:
    """Whether some query found fewer rows than asked for: the last of its scores are no numbers."""
    if len(scores) == 1:
        return math.isnan(scores.item(-1))
    return bool(np.isnan(scores[:, -1]).any())


def _holds_vectors(path: str) -> bool:
    """Whether this is a file of lists of vectors that was built in the place of codes."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - len(_VECTORS_MARK)))
            return file.read() == _VECTORS_MARK
    except OSError as error:
        raise CorruptData(f"index file {path} can't be opened: {error}") from error


def _opened(archive: zipfile.ZipFile) -> Any:
    names = [name for name in archive.namelist() if name != _DESCRIPTION]
    if not names:
        return None
    with tempfile.TemporaryDirectory(prefix="elanus-scann-") as folder:
        for name in names:
            archive.extract(name, folder)
        with open(os.path.join(folder, _ASSETS), encoding="utf-8") as assets:
            return library().scann_pybind.ScannNumpy(folder, assets.read())
