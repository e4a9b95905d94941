"""BM25's top 10 of 100,000 documents: our inverted lists against bm25s, query by query in turns.

``python -m benchmarks.bm25`` (needs ``pip install bm25s``). Documents of 20 to 140 words, words by
Zipf's law out of 30,000; queries of 5 words, the 20 most frequent left out.
"""

import time

import bm25s
import numpy as np

from elanus.engine.index.sparse.inverted import Bm25, InvertedLists, pick
from elanus.engine.index.sparse.scan import SparseQuery
from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.model.vectors import SparseRows

DOCUMENTS, WORDS, QUERIES, TERMS, COMMON = 100_000, 30_000, 300, 5, 20
K1, B = 1.2, 0.75


def main() -> None:
    generator = np.random.default_rng(0)
    chances = 1 / np.arange(1, WORDS + 1)
    chances /= chances.sum()
    lengths = generator.integers(20, 140, DOCUMENTS)
    words = generator.choice(WORDS, lengths.sum(), p=chances)
    rows = np.repeat(np.arange(DOCUMENTS), lengths)
    entries, counts = np.unique(rows * WORDS + words, return_counts=True)
    offsets = np.searchsorted(entries // WORDS, np.arange(DOCUMENTS + 1)).astype(np.int32)
    terms = (entries % WORDS).astype(np.uint32)
    lists = InvertedLists.build(SparseRows(offsets, terms, counts.astype(np.float32)))

    def ours(query: np.ndarray) -> np.ndarray:
        asked = np.unique(query).astype(np.uint32)
        statistics = TermStatistics(DOCUMENTS, lists.tokens(), lists.rows_with(asked))
        weights = SparseQuery(asked, statistics.idf.astype(np.float32))
        scores = lists.scores(weights, Bm25(K1, B, statistics.average_length))
        return pick(scores, 10, None, None)[0]

    peer = bm25s.BM25(k1=K1, b=B, method="lucene")
    documents = np.split(words.astype(str), np.cumsum(lengths)[:-1])
    peer.index([document.tolist() for document in documents], show_progress=False)

    def theirs(query: np.ndarray) -> np.ndarray:
        tokens = [query.astype(str).tolist()]
        return peer.retrieve(tokens, k=10, show_progress=False, n_threads=0).scores[0]

    ratios, spent = [], {ours: [], theirs: []}
    for _ in range(QUERIES):
        query = generator.choice(WORDS, TERMS, replace=False, p=chances) + COMMON
        query = query[query < WORDS]
        scores = {}
        for search in (ours, theirs):
            started = time.perf_counter()
            scores[search] = search(query)
            spent[search].append(time.perf_counter() - started)
        # bm25s leaves the constant factor k1 + 1 out.
        np.testing.assert_allclose(scores[ours], scores[theirs][: len(scores[ours])] * 2.2, 1e-3)
        ratios.append(spent[ours][-1] / spent[theirs][-1])
    times = [np.median(spent[search]) * 1e3 for search in (ours, theirs)]
    print(f"Elanus {times[0]:.2f} ms, bm25s {times[1]:.2f} ms; ratio {np.median(ratios):.2f}")


if __name__ == "__main__":
    main()
