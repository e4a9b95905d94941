"""IVF_FLAT, IVF_SQ8, IVF_PQ, IVF_RABITQ: rows in lists by the nearest of ``nlist`` centroids; a
search looks into the ``nprobe`` nearest lists, into more under a filter.

The kernel takes a filter, so lists are searched once, deep enough to see enough survivors.
"""

import math
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.codes import (
    ITERATIONS,
    TRAINING_ROWS,
    own_scalar_type,
    scalar_type,
)
from elanus.engine.index.dense.exact import pointer
from elanus.engine.index.dense.faiss_files import (
    kernel_threads,
    open_faiss,
    wrong_class,
)
from elanus.engine.index.dense.family import (
    MIN_ROWS_PER_CENTROID,
    DenseIndex,
    Expected,
    Source,
    largest_code,
)
from elanus.engine.index.dense.neighbours import Floats, Ints, Neighbours
from elanus.engine.index.dense.products import most_by_differences, nearest_lists
from elanus.engine.index.library import faiss, faiss_metric, search_faiss
from elanus.engine.index.rows import RowSet
from elanus.engine.strategy import Search
from elanus.model.types import MetricType

DEFAULT_NLIST = 128
DEFAULT_NPROBE = 8
TRAINING_ROWS_PER_LIST = 256
SEEN_PER_HIT = 8
"""Rows in the probed lists of an inverted file for each hit wanted, at least."""
LOOKED_AT_PER_HIT_IN_RANGE = 2.0
"""At least, of a range search: codes err about what is within the radius."""
FINEST_QUERY_BITS = 8
"""Of each number of a query against codes of one bit, where the user leaves queries as they are.
The same rows are found, and bits are counted instead of numbers added, in a tenth of the time."""
LISTED_ROW_COST = 15.0
"""Of scanning a row of 100 dimensions in a list, ns."""
KEPT_PARAMETERS = 64
"""Of the kernel, which it takes a while to make."""

CLASSES = {
    "IVF_FLAT": ("IndexIVFFlat", "IndexIVFScalarQuantizer"),
    "IVF_SQ8": ("IndexIVFScalarQuantizer",),
    "IVF_PQ": ("IndexIVFPQ",),
    "IVF_RABITQ": ("IndexIVFRaBitQ",),
}


def lists_for(source: Source) -> int:
    """As many as asked for, unless there are too few rows."""
    asked = source.number("nlist", DEFAULT_NLIST)
    return max(1, min(asked, source.row_count // MIN_ROWS_PER_CENTROID))


def usual_lists(expected: Expected, nlist: int) -> int:
    """Lists that a search looks into unless it says how many. An index may have been built with a
    number of its own, which is a part of the lists that it asked for: there may be fewer."""
    asked = int(expected.params.get("nlist", nlist))
    own = int(expected.params.get("nprobe", DEFAULT_NPROBE))
    if "nprobe" not in expected.params or nlist >= asked:
        return own
    return max(math.ceil(own * nlist / asked), min(DEFAULT_NPROBE, nlist))


class IvfIndex(DenseIndex):
    """See the module."""

    def __init__(self, expected: Expected, index: Any) -> None:
        super().__init__(expected)
        self.index = index
        self.nlist = int(index.nlist)
        self.nprobe = usual_lists(expected, self.nlist)
        self._is_exact = isinstance(index, faiss.IndexIVFFlat)
        self._is_rabitq = isinstance(index, faiss.IndexIVFRaBitQ)
        self._refines = str(expected.params.get("refine", "false")).lower() == "true"

    @classmethod
    def build(cls, index_type: str, source: Source, out_path: str) -> None:
        with kernel_threads(source.threads):
            nlist = lists_for(source)
            index = _untrained(index_type, source, nlist)
            index.cp.min_points_per_centroid = 1
            index.train(source.sample(max(nlist * TRAINING_ROWS_PER_LIST, TRAINING_ROWS)))
            for piece in source.pieces():
                index.add(piece)
            faiss.write_index(index, out_path)

    @classmethod
    def open(cls, path: str, expected: Expected) -> "IvfIndex":
        opened = open_faiss(path, expected)
        if type(opened).__name__ not in CLASSES[expected.index_type]:
            raise wrong_class(path, expected, opened)
        return cls(expected, opened)

    @cached_property
    def list_of_row(self) -> npt.NDArray[np.int32]:
        """int32 (rows,): the list that each row is in."""
        lists = self.index.invlists
        result = np.empty(self.row_count, np.int32)
        for number in range(self.nlist):
            size = lists.list_size(number)
            if size:
                result[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return result

    @cached_property
    def _sizes(self) -> Ints:
        """int64 (nlist,): rows in each list."""
        lists = self.index.invlists
        return np.array([lists.list_size(number) for number in range(self.nlist)], np.int64)

    def _survivors(self, rows: RowSet | None) -> Ints:
        """int64 (nlist,): rows of the set in each list."""
        if rows is None:
            return self._sizes
        return np.bincount(self.list_of_row[rows.mask], minlength=self.nlist)

    def find(self, search: Search) -> Neighbours:
        rows = search.rows
        nprobe = min(int(search.number("nprobe", self.nprobe)), self.nlist)
        if rows is None and search.bounds is None:
            scores, labels = self._probed(search, nprobe)
            if labels[:, search.top_k - 1].min() >= 0:
                return self._best(search, scores, labels)
        near, numbers = self._nearest_lists(search.queries, self.nlist, nprobe)
        sizes = self._survivors(rows)
        # Without a filter nprobe means what the user was told it means.
        selective = rows is not None or search.bounds is not None
        least = SEEN_PER_HIT * search.top_k if selective else search.top_k
        probes = probes_wanted(sizes[numbers], nprobe, search.wanted, self.row_count, least)
        # The inner bound of a range search may hide any number of nearer rows: only all lists are
        # sure.
        hidden = search.bounds is not None and math.isfinite(search.bounds.high)
        if hidden:
            probes[:] = self.nlist
        if rows is not None and self._is_dearer(search, probes):
            return search.exact(np.arange(len(search.queries)))
        width = int(probes.max())
        lists = np.where(np.arange(width) < probes[:, None], numbers[:, :width], -1)
        depth = search.wanted if hidden else self._depth(search)
        similarities, labels = self._search_lists(search, near[:, :width], lists, depth)
        return self._best(search, similarities, labels)

    def _nearest_lists(self, queries: Floats, count: int, nprobe: int) -> tuple[Floats, Ints]:
        if self._is_l2:
            return nearest_lists(self.index.quantizer, queries, count, nprobe)
        near, numbers = self.index.quantizer.search(queries, count)
        return near, numbers

    def _probed(self, search: Search, nprobe: int) -> tuple[Floats, Ints]:
        """Of the nearest lists, as nothing is filtered."""
        depth = self._depth(search)
        if self._is_l2 and len(search.queries) > most_by_differences(self.dim):
            near, numbers = self._nearest_lists(search.queries, nprobe, nprobe)
            return self._search_lists(search, near, numbers, depth)
        params = self._parameters(search, nprobe)
        scores, labels = search_faiss(self.index, search.queries, depth, params)
        return (np.negative(scores, out=scores), labels) if self._is_l2 else (scores, labels)

    def _best(self, search: Search, similarities: Floats, labels: Ints) -> Neighbours:
        if not self._is_exact:
            return search.refined(search.queries, labels)
        if labels[:, -1].min() < 0:
            similarities = np.where(labels >= 0, similarities, -np.inf)
        return search.best(similarities, labels)

    def _depth(self, search: Search) -> int:
        """Rows that are looked at."""
        least = 1.0 if self._is_exact or search.bounds is None else LOOKED_AT_PER_HIT_IN_RANGE
        refine_k = search.number("refine_k", 1) if self._refines else 1.0
        return min(math.ceil(search.top_k * max(refine_k, least)), search.wanted)

    def _is_dearer(self, search: Search, probes: Ints) -> bool:
        """Whether a scan of the survivors costs less than one of the lists."""
        rows = float(probes.mean()) * self.row_count / self.nlist
        return search.exact_cost < rows * LISTED_ROW_COST * max(self.dim, 16) / 100

    def _search_lists(
        self, search: Search, near: Floats, lists: Ints, depth: int
    ) -> tuple[Floats, Ints]:
        """The ``depth`` best of the search's rows in the given lists, (nq, width), of these
        distances; list -1 is skipped. Similarities and labels (nq, depth), best first, -1 where
        there are fewer."""
        nq = len(search.queries)
        near, lists = np.ascontiguousarray(near), np.ascontiguousarray(lists)
        scores = np.empty((nq, depth), np.float32)
        labels = np.empty((nq, depth), np.int64)
        params = self._parameters(search, lists.shape[1])
        # The wrapper that takes arrays does not take parameters; this is what it wraps.
        self.index.search_preassigned_c(
            nq,
            pointer(search.queries),
            depth,
            pointer(lists),
            pointer(near),
            pointer(scores),
            pointer(labels),
            False,
            params,
        )
        return (np.negative(scores, out=scores), labels) if self._is_l2 else (scores, labels)

    def _parameters(self, search: Search, nprobe: int) -> Any:
        bits = None
        if self._is_rabitq:
            bits = int(search.number("rbq_bits_query", 0)) or FINEST_QUERY_BITS
        if search.rows is None:
            return _unfiltered(nprobe, bits)
        return _parameters(nprobe, bits, faiss.IDSelectorBitmap(search.rows.packed))

    @property
    def _is_l2(self) -> bool:
        return self.metric is MetricType.L2


def _parameters(nprobe: int, rabitq_bits: int | None, selector: Any) -> Any:
    if rabitq_bits is None:
        return faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
    return faiss.IVFRaBitQSearchParameters(nprobe=nprobe, sel=selector, qb=rabitq_bits)


@lru_cache(maxsize=KEPT_PARAMETERS)
def _unfiltered(nprobe: int, rabitq_bits: int | None) -> Any:
    return _parameters(nprobe, rabitq_bits, None)


def _untrained(index_type: str, source: Source, nlist: int) -> Any:
    dim, metric = source.dim, faiss_metric(source.metric)
    is_l2 = source.metric is MetricType.L2
    # It belongs to the index, which keeps it alive.
    centroids = faiss.IndexFlatL2(dim) if is_l2 else faiss.IndexFlatIP(dim)
    match index_type:
        case "IVF_PQ":
            bits = min(source.number("nbits", 8), largest_code(source.row_count))
            index = faiss.IndexIVFPQ(centroids, dim, nlist, source.number("m", 1), bits, metric)
            index.pq.cp.niter = ITERATIONS
            index.pq.cp.min_points_per_centroid = 1
            return index
        case "IVF_RABITQ":
            return faiss.IndexIVFRaBitQ(centroids, dim, nlist, metric)
        case "IVF_SQ8":
            kind: int | None = scalar_type(source.text("sq_type", "sq8"))
            by_residual = True
        case _:
            kind, by_residual = own_scalar_type(source), False
    if kind is None:
        return faiss.IndexIVFFlat(centroids, dim, nlist, metric)
    return faiss.IndexIVFScalarQuantizer(centroids, dim, nlist, kind, metric, by_residual)


def probes_wanted(sizes: Ints, nprobe: int, wanted: int, row_count: int, least: int) -> Ints:
    """How many lists to look into, int64 (nq,).

    sizes: (nq, nlist) survivors in each list, nearest list first. At least ``nprobe`` lists, and
    as many as it takes to see √selectivity of the rows that nprobe average lists hold: fewer rows
    survive, and they lie further out. More where the filter leaves less near this query than
    elsewhere: the nearest survivors are then a shell that many lists share. Always enough lists
    to see ``least`` survivors.
    """
    nlist = sizes.shape[1]
    selectivity = wanted / row_count
    target = nprobe * row_count / nlist * math.sqrt(selectivity) if selectivity < 1 else 0.0
    target = min(max(target, least), wanted)
    running = np.cumsum(sizes, axis=1)
    enough = np.argmax(running >= target, axis=1) + 1
    thinness = np.maximum(enough * (wanted / nlist) / target, 1.0)
    reached = running >= np.minimum(target * thinness, wanted)[:, None]
    enough = np.where(reached[:, -1], np.argmax(reached, axis=1) + 1, nlist)
    probes: Ints = np.maximum(enough, nprobe)
    return probes
