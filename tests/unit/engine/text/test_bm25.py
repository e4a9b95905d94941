"""BM25 of a column, however it is held, against its formula row by row."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.engine.index.sparse.column import SparseColumn
from elanus.engine.index.sparse.index import SparseIndex
from elanus.engine.index.sparse.inverted import InvertedLists
from elanus.engine.index.sparse.statistics import AVERAGE_LENGTH, K1, B, TermStatistics
from elanus.engine.text.analyzer import dimension_of
from elanus.engine.text.bm25 import query_terms, term_counts, weighted
from elanus.engine.text.parameters import analyzer_of
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.model.vectors import SparseRows

WORDS = ("red", "green", "apple", "pie", "wine")
ANALYZER = analyzer_of("")
texts = st.lists(st.none() | st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), max_size=9)
queries = st.lists(st.sampled_from((*WORDS, "absent")), max_size=4).map(" ".join)


def counts(rows: list[str | None]):
    return term_counts(rows, [ANALYZER] * len(rows))


def test_a_text_is_the_counts_of_its_terms() -> None:
    [row] = counts(["red Apple red"]).to_pylist()
    found = {entry["index"]: entry["value"] for entry in row}
    assert found == {dimension_of("red"): 2.0, dimension_of("apple"): 1.0}


@given(texts, texts, queries, st.floats(0, 3), st.floats(0, 1))
def test_scores(
    first: list[str | None], second: list[str | None], query: str, k1: float, b: float
) -> None:
    asked = counts([query])
    terms = query_terms(asked)
    column = SparseColumn([part for part in (counts(first), counts(second)) if len(part)])
    interim = column.extended(MetricType.BM25, None)
    statistics = column.statistics(terms, None)
    documents = [(text or "").split() for text in (*first, *second)]
    assert statistics.rows == len(documents)
    assert statistics.tokens == sum(map(len, documents))
    covered = column.statistics(terms, interim)
    assert covered.rows_with.tolist() == statistics.rows_with.tolist()
    assert (covered.rows, covered.tokens) == (statistics.rows, statistics.tokens)

    expected = {
        row: score
        for row, words in enumerate(documents)
        if (score := score_of(words, query.split(), documents, k1, b)) > 0
    }
    wanted = VectorQuery(
        field_name="terms",
        metric=MetricType.BM25,
        vectors=weighted(asked, terms, statistics),
        top_k=20,
        params={K1: k1, B: b, AVERAGE_LENGTH: statistics.average_length},
    )
    for index in (None, interim):
        found = column.search(wanted, column.row_count, None, index)
        assert_scores(found, expected)
    if first:
        whole = counts([*first, *second])
        lists = SparseIndex(
            InvertedLists.build(SparseRows.of(whole)), "SPARSE_WAND", MetricType.BM25
        )
        assert_scores(lists.search(SparseColumn([whole]), wanted, None), expected)
        assert lists.statistics(terms).rows_with.tolist() == statistics.rows_with.tolist()


def assert_scores(found, expected: dict[int, float]) -> None:
    scores = dict(zip(found.offsets.tolist(), found.similarities.tolist(), strict=True))
    assert scores.keys() == expected.keys()
    for row, score in expected.items():
        assert scores[row] == pytest.approx(score, rel=1e-4)


def score_of(
    words: list[str], query: list[str], documents: list[list[str]], k1: float, b: float
) -> float:
    average = sum(map(len, documents)) / len(documents)
    total = 0.0
    for term, times in Counter(query).items():
        rows_with = sum(term in other for other in documents)
        idf = math.log(1 + (len(documents) - rows_with + 0.5) / (rows_with + 0.5))
        count = words.count(term)
        if count:
            norm = k1 * (1 - b + b * len(words) / average)
            total += times * idf * count * (k1 + 1) / (count + norm)
    return total


def test_statistics_of_nothing() -> None:
    nothing = TermStatistics.none(2)
    assert nothing.average_length == 0
    assert np.isfinite(nothing.idf).all()
