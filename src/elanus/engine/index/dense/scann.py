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
directory at the end tells a truncated file and whose checksums tell a damaged one. Where products
would blur distances the library gets vectors less their mean, which stands in the archive.
"""

import json
import math
import os
import tempfile
import zipfile
from functools import lru_cache
from typing import Any

import numpy as np

from elanus.engine import strategy
from elanus.engine.index.base import VectorColumn
from elanus.engine.index.dense.chosen import best_labels, score_labels
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.faiss_files import check_size
from elanus.engine.index.dense.family import (
    PIECE_ROWS,
    DenseIndex,
    Expected,
    Source,
)
from elanus.engine.index.dense.ivf import DEFAULT_NPROBE, lists_for
from elanus.engine.index.dense.neighbours import (
    Floats,
    Ints,
    Neighbours,
    prepare_queries,
)
from elanus.engine.index.dense.products import are_blurred
from elanus.engine.index.rows import RowSet
from elanus.engine.strategy import Candidates, Search, search_by_walks
from elanus.errors import CorruptData
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

DEFAULT_SUB_DIM = 2
MIN_ROWS = 64
"""Fewer can't train codes: an index over them is empty, and searches scan."""
TRAINING_ROWS = 100_000
ORIGIN_ROWS = 1_024
"""That their mean is taken of."""
ANISOTROPY = 0.2
"""Errors along a vector, which change its products with queries near it, count more than others."""
REORDERED_MORE = 9
REORDERED_MORE_AT_MOST = 500
"""Rows that are ranked for each hit wanted beside it, unless the user says how many."""
SCORED_BESIDE, SCORED_BESIDE_PART = 4, 4
"""Rows that are scored by their vectors beside the hits wanted: so many, and a quarter of these.
Of 3,300 hits that were checked bytes ranked none further behind."""
CHECKED_QUERIES, CHECKED_DEPTH, CHECKED_HITS = 64, 100, 10
RANKED_RIGHT = 0.99
"""Finer codes are kept if they rank this part of the best of the checked rows, by their vectors,
among those that would be scored."""
LISTS_POWER = 0.3
"""Lists for candidates down to rank r as for the nearest k: nprobe · (r / k) ** 0.3."""
CANDIDATES_PER_ROW = 0.5
"""Candidates asked for are at most this part of the rows in the lists."""

KEPT_WALKS = 64
"""For numbers of hits and parameters that were asked for."""

CALL_COST = 40_000.0
"""Of a search, ns; then of a centroid, a code and a finer code of 100 dimensions, and of a row that
comes back."""
CENTROID_COST = 4.0
CODE_COST = 2.5
FINE_CODE_COST = 40.0
CANDIDATE_COST = 100.0

_DESCRIPTION = "elanus.json"
_ASSETS = "scann_assets.pbtxt"


class ScannIndex(DenseIndex):
    """See the module. ``searcher``: None of an index over few rows. ``origin``: what is taken away
    from all vectors, float32 (dim,), if anything is."""

    def __init__(
        self,
        expected: Expected,
        searcher: Any,
        nlist: int,
        has_fine_codes: bool,
        size_bytes: int,
        origin: Floats | None = None,
    ) -> None:
        super().__init__(expected, size_bytes)
        self.searcher = searcher
        self.origin = origin
        self.nlist = nlist
        self.has_fine_codes = has_fine_codes
        self.nprobe = _usual_lists(expected, nlist)
        self._usual = lru_cache(KEPT_WALKS)(self._usual_walk)

    @classmethod
    def build(cls, index_type: str, source: Source, out_path: str) -> None:
        nlist, origin, has_fine_codes = lists_for(source), _origin(source), False
        with tempfile.TemporaryDirectory(dir=os.path.dirname(out_path) or None) as folder:
            if source.row_count >= MIN_ROWS:
                searcher, has_fine_codes = _trained(source, nlist, origin)
                searcher.serialize(folder, True)
            described = {
                "metric": source.metric.value,
                "rows": source.row_count,
                "dim": source.dim,
                "nlist": nlist,
                "fine_codes": has_fine_codes,
                "origin": None if origin is None else origin.tolist(),
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
                origin = described.get("origin")
        except (OSError, RuntimeError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise CorruptData(f"index file {path} can't be opened: {error}") from error
        nlist, has_fine_codes = int(described["nlist"]), bool(described.get("fine_codes", False))
        taken = None if origin is None else np.array(origin, np.float32)
        return cls(expected, searcher, nlist, has_fine_codes, os.path.getsize(path), taken)

    def search(self, column: VectorColumn, query: VectorQuery, rows: RowSet | None) -> Neighbours:
        if rows is None and len(query.vectors) == 1 and query.radius is None:
            found = self._nearest(column, query)
            if found is not None:
                return found
        return super().search(column, query, rows)

    def find(self, search: Search) -> Neighbours:
        if self.searcher is None:
            return search.exact(np.arange(len(search.queries)))
        walk = self._walk(search.top_k, search.params.get("nprobe"), search.params.get("reorder_k"))
        return search_by_walks(search, walk)

    def _nearest(self, column: VectorColumn, query: VectorQuery) -> Neighbours | None:
        """Of all rows, for one query, as ``find`` has them, by as few steps as can be: behind the
        kernel caches are cold, and a step costs several times what it costs with warm ones. None
        if that takes more than one walk."""
        asked = query.params
        walk = self._usual(query.top_k, asked.get("nprobe"), asked.get("reorder_k"))
        if walk is None or not isinstance(column, DenseColumn):
            return None
        queries = prepare_queries(query.vectors, self.metric)
        asked_for = self.moved(queries)[0]
        found, ranks = self.searcher.search(asked_for, walk.wanted, walk.ranked, walk.lists)
        if len(found) < walk.wanted or math.isnan(ranks.item(-1)):
            return None
        blocks = column.blocks(self.metric)
        return best_labels(queries, blocks, found[None], self.metric, query.top_k)

    def moved(self, queries: Floats) -> Floats:
        """As the library knows vectors."""
        return queries if self.origin is None else queries - self.origin

    def _usual_walk(self, top_k: int, nprobe: Any, reorder_k: Any) -> "_Walk | None":
        """The first walk for one query without a filter; None if a scan costs less."""
        if self.searcher is None or top_k > self.row_count:
            return None
        walk = self._walk(top_k, nprobe, reorder_k)
        scan = strategy.exact_cost(self.row_count, self.row_count, self.dim, 1)
        is_cheaper = walk.wanted < self.row_count and walk.cost(walk.wanted) < scan
        return walk if is_cheaper else None

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
        self.wanted = min(candidates, _scored_for(top_k)) if index.has_fine_codes else candidates
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
        searcher, queries = self._index.searcher, self._index.moved(queries)
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
        return (-scores if self._index.metric is MetricType.L2 else scores), labels


def ranked_for(top_k: int) -> int:
    """Candidates by codes, unless the user says how many."""
    return top_k + min(REORDERED_MORE * top_k, REORDERED_MORE_AT_MOST)


def _scored_for(top_k: int) -> int:
    return top_k + SCORED_BESIDE + top_k // SCORED_BESIDE_PART


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


def _origin(source: Source) -> Floats | None:
    if source.metric is not MetricType.L2:
        return None
    sample = source.sample(ORIGIN_ROWS)
    origin: Floats = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    return origin if are_blurred(sample) else None


def _trained(source: Source, nlist: int, origin: Floats | None) -> tuple[Any, bool]:
    """(searcher, whether it has finer codes)."""
    vectors = np.empty((source.row_count, source.dim), np.float32)
    for number, piece in enumerate(source.pieces()):
        own = vectors[number * PIECE_ROWS : number * PIECE_ROWS + len(piece)]
        np.subtract(piece, 0 if origin is None else origin, out=own)
    searcher = _built(source, vectors, nlist, with_fine_codes=True)
    if _ranks_well(searcher, vectors, nlist, source.metric):
        return searcher, True
    return _built(source, vectors, nlist, with_fine_codes=False), False


def _built(source: Source, vectors: Floats, nlist: int, *, with_fine_codes: bool) -> Any:
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
    if with_fine_codes:
        builder.reorder(CHECKED_DEPTH, quantize=True)
    builder.set_n_training_threads(source.threads)
    return builder.build().searcher


def _ranks_well(searcher: Any, vectors: Floats, nlist: int, metric: MetricType) -> bool:
    """Whether finer codes rank the best rows among those that would be scored, for some of the
    rows as queries."""
    step = math.ceil(len(vectors) / CHECKED_QUERIES)
    queries = np.ascontiguousarray(vectors[::step])
    depth = min(CHECKED_DEPTH, len(vectors))
    found, ranked = searcher.search_batched(queries, depth, depth, nlist, False, 0)
    labels = np.where(np.isnan(ranked), -1, found.astype(np.int64))
    similarities = score_labels(queries, [VectorBlock(0, vectors)], labels, metric)
    bar = np.partition(similarities, -CHECKED_HITS, axis=1)[:, -CHECKED_HITS, None]
    good = (similarities >= bar) & (labels >= 0)
    scored = good[:, : _scored_for(CHECKED_HITS)]
    right, best = (np.minimum(each.sum(axis=1), CHECKED_HITS).sum() for each in (scored, good))
    return bool(best > 0 and RANKED_RIGHT * best <= right)


def _opened(archive: zipfile.ZipFile) -> Any:
    names = [name for name in archive.namelist() if name != _DESCRIPTION]
    if not names:
        return None
    with tempfile.TemporaryDirectory(prefix="elanus-scann-") as folder:
        for name in names:
            archive.extract(name, folder)
        with open(os.path.join(folder, _ASSETS), encoding="utf-8") as assets:
            return _library().scann_pybind.ScannNumpy(folder, assets.read())
