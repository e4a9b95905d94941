"""HNSW, HNSW_SQ, HNSW_PQ, HNSW_PRQ: a graph of near rows, walked from row to row.

The graph is built over the exact vectors whatever the codes, so that it links rows that are near
indeed; the codes then take the vectors' place in the file. A search walks with ``ef`` and looks at
``refine_k`` rows for each hit if the index was built with ``refine``.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from elanus.engine.index.base import Nearest, VectorColumn
from elanus.engine.index.dense.codes import (
    CODINGS,
    holds_scaled_int8,
    make_codes,
    scaled_to_int8,
)
from elanus.engine.index.dense.faiss_files import (
    kernel_threads,
    open_faiss,
    wrong_class,
)
from elanus.engine.index.dense.family import DenseIndex, Expected, Source
from elanus.engine.index.dense.nearest import Ranked, is_cut_clear
from elanus.engine.index.dense.neighbours import Floats, Ints, Neighbours
from elanus.engine.index.library import (
    ROOM_SIZE,
    faiss,
    faiss_metric,
    query_in_room,
    room,
    search_faiss,
)
from elanus.engine.strategy import RANGE_EF, Candidates, Search, search_by_walks
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

DEFAULT_M = 30
DEFAULT_EF_CONSTRUCTION = 360
MIN_EF = 16
DEPTH_POWER = 0.7
"""ef that finds the survivor at rank r as surely as ef finds rank k: ef · (r / k) ** 0.7."""

KEPT_PARAMETERS = 64
"""Making the kernel's parameters anew costs as much as a tenth of a small search."""


def graph_cost(ef: float, links: int, dim: int) -> float:
    """Of a walk over float32 for one query, ns."""
    return ef * 2400.0 * (links / 16) * (0.4 + 0.6 * dim / 100)


class HnswIndex(DenseIndex):
    """See the module."""

    def __init__(self, expected: Expected, index: Any) -> None:
        super().__init__(expected)
        self.index = index
        self.links_per_row = int(index.hnsw.nb_neighbors(1))
        storage = faiss.downcast_index(index.storage)
        self._flat = storage if isinstance(storage, faiss.IndexFlat) else None
        relative_cost = CODINGS[expected.index_type].relative_cost
        self.walk_cost = graph_cost(1.0, self.links_per_row, self.dim) * relative_cost
        self._takes_int8 = holds_scaled_int8(storage, expected.metric)
        self._refines = str(expected.params.get("refine", "false")).lower() == "true"
        self._vectors = None if self._flat is None else self._view(self._flat)

    def _view(self, storage: Any) -> Floats:
        view = faiss.rev_swig_ptr(storage.get_xb(), self.row_count * self.dim)
        return np.asarray(view, np.float32).reshape(self.row_count, self.dim)

    @classmethod
    def build(cls, index_type: str, source: Source, out_path: str) -> None:
        write_graph(index_type, source, build_graph(source, *cls.shape(source)), out_path)

    @classmethod
    def shape(cls, source: Source) -> tuple[int, int]:
        """Links of a row in the upper layers of the graph, and how many rows are looked at to find
        them."""
        effort = source.number("efConstruction", DEFAULT_EF_CONSTRUCTION)
        return source.number("M", DEFAULT_M), effort

    @classmethod
    def open(cls, path: str, expected: Expected) -> "HnswIndex":
        opened = open_faiss(path, expected)
        if not isinstance(opened, faiss.IndexHNSW):
            raise wrong_class(path, expected, opened)
        storage = faiss.downcast_index(opened.storage)
        if type(storage).__name__ not in CODINGS[expected.index_type].classes:
            raise wrong_class(path, expected, opened, storage)
        return cls(expected, opened)

    @property
    def vectors(self) -> Floats | None:
        return self._vectors

    def prepared(self, queries: Floats) -> Floats:
        """As the kernel compares them. Against codes of int8 it may look at whole numbers only;
        for COSINE the length of a query does not change the ranks."""
        return scaled_to_int8(queries) if self._takes_int8 else queries

    def nearest(self, column: VectorColumn, query: VectorQuery) -> Nearest | None:
        top_k, width, is_l2 = query.top_k, query.top_k + 1, self.metric is MetricType.L2
        ef = max(int(query.params.get("ef", MIN_EF)), width)
        if self._vectors is None or self._refines or width > ROOM_SIZE:
            return None
        if not self.beats_scan(ef, ef * self.walk_cost):
            return None
        search, params = self.index.search_c, _parameters(ef)
        is_cosine = self.metric is MetricType.COSINE

        def nearest(vectors: Floats) -> Ranked | None:
            if query_in_room(vectors, is_cosine) is None:
                return None
            own = room()
            search(1, own.query_pointer, width, own.floats_pointer, own.ints_pointer, params)
            best = own.floats[:width].copy()
            if is_l2:
                np.negative(best, out=best)
            if own.ints.item(top_k) < 0 or not is_cut_clear(best, top_k):
                return None
            return best[:top_k], own.ints[:top_k].copy()

        return nearest

    def find(self, search: Search) -> Neighbours:
        wanted = search.top_k
        if self._refines:
            wanted = math.ceil(wanted * search.number("refine_k", 1))
        least = max(wanted, MIN_EF if search.bounds is None else RANGE_EF)
        return search_by_walks(search, Walk(self, search, wanted, int(search.number("ef", least))))


class Walk(Candidates):
    """A walk for ``wanted`` rows with ``ef``."""

    def __init__(self, index: HnswIndex, search: Search, wanted: int, ef: int) -> None:
        self.wanted = wanted
        self.are_exact = index.vectors is not None
        self._index = index
        self._ef = max(ef, wanted)

    def depth_for(self, rank: float) -> int:
        deep = self._ef * math.pow(max(1.0, rank / self.wanted), DEPTH_POWER)
        return math.ceil(max(deep, rank if rank <= self.wanted else 1.2 * rank))

    def cost(self, depth: float) -> float:
        return depth * self._index.walk_cost

    def walk(self, queries: Floats, size: int, depth: int) -> tuple[Floats, Ints]:
        prepared, params = self._index.prepared(queries), _parameters(max(depth, size))
        scores, labels = search_faiss(self._index.index, prepared, size, params)
        if self._index.metric is MetricType.L2:
            np.negative(scores, out=scores)
        return scores, labels


@lru_cache(maxsize=KEPT_PARAMETERS)
def _parameters(ef: int) -> Any:
    return faiss.SearchParametersHNSW(efSearch=ef)


def build_graph(source: Source, links: int, ef_construction: int) -> Any:
    """The graph over the vectors themselves."""
    index = faiss.IndexHNSWFlat(source.dim, links, faiss_metric(source.metric))
    index.hnsw.efConstruction = ef_construction
    with kernel_threads(source.threads):
        for piece in source.pieces():
            index.add(piece)
    return index


def write_graph(index_type: str, source: Source, index: Any, out_path: str) -> None:
    """The file of the graph, with the codes of the type in place of the vectors."""
    with kernel_threads(source.threads):
        codes = make_codes(index_type, source)
    if codes is None:
        faiss.write_index(index, out_path)
        return
    vectors = index.storage
    index.storage = codes
    try:
        faiss.write_index(index, out_path)
    finally:
        index.storage = vectors
