"""DISKANN: a graph and short codes that are mapped from disk, and vectors that stay in the column.

A walk reads links and codes (a bit or two for each dimension), which together are a small part of
the vectors; only the ``search_list`` nearest rows by code are read from the column, once each. As
in the algorithm of that name the vectors need not fit into memory. They are read in no order, and
asked for together before they are compared.
"""

from collections.abc import Sequence
from typing import Any

from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.family import Expected, Source
from elanus.engine.index.dense.hnsw import HnswIndex, Walk
from elanus.engine.index.dense.neighbours import Neighbours
from elanus.engine.index.dense.pages import RandomPages
from elanus.engine.strategy import RANGE_EF, Search, search_by_walks

DEFAULT_MAX_DEGREE = 56
DEFAULT_SEARCH_LIST_SIZE = 100
MIN_SEARCH_LIST = 16


class DiskannIndex(HnswIndex):
    """See the module. The links of a row are at most ``max_degree``."""

    def __init__(self, expected: Expected, index: Any) -> None:
        super().__init__(expected, index)
        self._pages: RandomPages | None = None

    @classmethod
    def shape(cls, source: Source) -> tuple[int, int]:
        degree = source.number("max_degree", DEFAULT_MAX_DEGREE)
        effort = source.number("search_list_size", DEFAULT_SEARCH_LIST_SIZE)
        # The lowest layer, which has all rows, has twice as many links as the others.
        return max(2, degree // 2), effort

    def find(self, search: Search) -> Neighbours:
        least = max(search.top_k, MIN_SEARCH_LIST if search.bounds is None else RANGE_EF)
        given = search.params.get("search_list_size", search.params.get("search_list", least))
        width = max(int(given), search.top_k)
        pages = self._pages_of(search.blocks)
        if pages.is_asked_for:
            search.read_ahead = pages.ask_for
        with pages.watched():
            return search_by_walks(search, Walk(self, search, width, width))

    def _pages_of(self, blocks: Sequence[VectorBlock]) -> RandomPages:
        pages = self._pages
        if pages is None or pages.blocks is not blocks:
            pages = self._pages = RandomPages(blocks)
        return pages
