"""A segment's searches beside the libraries alone with the same parameters, as ratios of one run.

    python -m benchmarks.index_speed [--data words clustered] [--only HNSW SCANN ...] [--rows N]

*Library* is the whole search that the library has for these parameters: faiss's ``IndexHNSW`` and
``IndexIVF``; ``IndexRefineFlat`` over them where codes choose and vectors decide; scann with
``reorder`` by a byte for each dimension, which ours has too, and in a row of its own by vectors,
which it then holds in memory. *Candidates* is the first step of faiss's: the codes' choice, whose
scores are estimates. All get queries of unit length, and stored vectors too. Ours begins with the
user's vectors and ends with primary keys and timestamps. Short runs take turns; times are processor
time of one thread, the best of the runs over the same queries.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import faiss
import numpy as np
from scann import scann_ops_pybind

from benchmarks.compare.data import CACHE
from benchmarks.engine import timed
from benchmarks.index_data import DATA, TOP_K, Build, Data, build
from benchmarks.index_recall import NOW, VARIANTS, Variant
from elanus.engine.index.base import VectorIndex
from elanus.engine.index.dense.hnsw import HnswIndex
from elanus.engine.index.dense.ivf import DEFAULT_NPROBE, IvfIndex
from elanus.engine.index.dense.neighbours import Floats, prepare_queries
from elanus.engine.index.dense.scann import ScannIndex, ranked_for
from elanus.engine.index.dense.scann_training import ANISOTROPY, DEFAULT_SUB_DIM, TRAINING_ROWS
from elanus.engine.threads import limit_kernel_threads

Search = Callable[[Floats], Any]
"""Of queries of unit length, float32 (nq, dim)."""
ROUNDS, RUNS = 8, 4
SINGLE_QUERIES = 20
"""Of a run at nq=1: so few that the machine seldom interrupts it."""


@dataclass(frozen=True)
class Rival:
    """size_bytes: of all that it searches, mapped or in memory."""

    name: str
    search: Search
    size_bytes: int


def scann_rivals(data: Data, index: ScannIndex, params: dict[str, Any]) -> Sequence[Rival]:
    ranked = int(params.get("reorder_k", ranked_for(TOP_K)))
    lists = params.get("nprobe", index.nprobe)
    with_vectors = scann_with_vectors(data, index.nlist)

    def searching(searcher: Any) -> Search:
        def search(queries: Floats) -> Any:
            if len(queries) == 1:
                return searcher.search(queries[0], TOP_K, ranked, lists)
            return searcher.search_batched(queries, TOP_K, ranked, lists)

        return search

    size = index.size_bytes
    codes = size - index.row_count * index.dim
    return (
        Rival("library", searching(scann_ops_pybind.ScannSearcher(index.searcher)), size),
        Rival("library, float32", searching(with_vectors), codes + data.raw_bytes),
    )


def scann_with_vectors(data: Data, nlist: int) -> Any:
    """An index like ours that has the vectors too."""
    folder = CACHE / f"{data.name}-{len(data.rows)}-scann-reorder-{nlist}"
    if not folder.exists():
        builder = scann_ops_pybind.builder(
            prepare_queries(data.rows, data.metric), TOP_K, "dot_product"
        )
        builder.tree(nlist, DEFAULT_NPROBE, training_sample_size=min(len(data.rows), TRAINING_ROWS))
        builder.score_ah(DEFAULT_SUB_DIM, anisotropic_quantization_threshold=ANISOTROPY)
        built = builder.reorder(TOP_K).build()
        folder.mkdir()
        built.serialize(str(folder))
    return scann_ops_pybind.load_searcher(str(folder))


def faiss_rivals(
    data: Data, index: HnswIndex | IvfIndex, params: dict[str, Any], size_bytes: int
) -> Sequence[Rival]:
    if isinstance(index, IvfIndex):
        kind = faiss.IVFRaBitQSearchParameters if index.index_type == "IVF_RABITQ" else None
        chosen = (kind or faiss.SearchParametersIVF)(nprobe=params.get("nprobe", DEFAULT_NPROBE))
        looked_at = TOP_K * params.get("refine_k", 1)
        has_vectors = index.index_type == "IVF_FLAT"
    else:
        looked_at = params.get("search_list", TOP_K * params.get("refine_k", 1))
        chosen = faiss.SearchParametersHNSW(efSearch=params.get("ef", max(looked_at, 16)))
        has_vectors = index.vectors is not None

    def candidates(queries: Floats) -> Any:
        return index.index.search(queries, looked_at, params=chosen)

    if has_vectors:
        return (Rival("library", candidates, size_bytes),)
    unit = prepare_queries(data.rows, data.metric)
    refined = faiss.IndexRefineFlat(index.index, faiss.swig_ptr(unit))
    both = faiss.IndexRefineSearchParameters(k_factor=looked_at / TOP_K, base_index_params=chosen)

    def library(queries: Floats) -> Any:
        return refined.search(queries, TOP_K, params=both)

    return (
        Rival("library", library, size_bytes + data.raw_bytes),
        Rival("candidates", candidates, size_bytes),
    )


def rivals_of(
    data: Data, made: Build, index: VectorIndex, params: dict[str, Any]
) -> Sequence[Rival]:
    if isinstance(index, ScannIndex):
        return scann_rivals(data, index, params)
    assert isinstance(index, HnswIndex | IvfIndex)
    return faiss_rivals(data, index, params, made.path.stat().st_size)


def times(data: Data, params: dict[str, Any], rivals: Sequence[Rival], nq: int) -> list[float]:
    """(ours, each of the rivals), us a query: of each round the best of its runs."""
    unit = prepare_queries(data.queries, data.metric)
    count = SINGLE_QUERIES if nq == 1 else nq
    totals = np.zeros(1 + len(rivals))
    for number in range(ROUNDS):
        first = number * count % (len(unit) - count + 1)
        queries, asked = unit[first : first + count], data.queries[first : first + count]
        works: list[Callable[[], None]] = [partial(ours, data, asked, params, nq)]
        works += [partial(each, rival.search, queries, nq) for rival in rivals]
        totals += np.min([turns(works, backwards=run % 2 == 1) for run in range(RUNS)], axis=0)
    found: list[float] = (totals / (ROUNDS * count) * 1e6).tolist()
    return found


def turns(works: Sequence[Callable[[], None]], *, backwards: bool) -> list[float]:
    """The time of each. Who follows one that has searched the same lists finds them in the caches,
    so runs go both ways."""
    order = range(len(works))
    taken = {at: timed(works[at], 1) for at in (reversed(order) if backwards else order)}
    return [taken[at] for at in order]


def ours(data: Data, queries: Floats, params: dict[str, Any], nq: int) -> None:
    for start in range(0, len(queries), nq):
        data.segment.search(data.asked(queries[start : start + nq], params), NOW, None)


def each(search: Search, queries: Floats, nq: int) -> None:
    for start in range(0, len(queries), nq):
        search(queries[start : start + nq])


def measure(data: Data, made: Build, index: VectorIndex, variant: Variant) -> None:
    """Prints a row for each number of queries and each rival."""
    rivals = rivals_of(data, made, index, variant.params)
    for nq in (1, 100):
        own, *others = times(data, variant.params, rivals, nq)
        for rival, other in zip(rivals, others, strict=True):
            print(
                f"| {index.index_type} {variant} | {nq} | {own:.0f} | {rival.name} | "
                f"{rival.size_bytes / 1e6:.0f} | {other:.0f} | {own / other:.2f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="Segment searches beside bare libraries.")
    parser.add_argument("--data", nargs="+", choices=["words", "clustered"], default=["words"])
    parser.add_argument("--only", nargs="+", default=["HNSW", "SCANN", "AUTOINDEX", "DISKANN"])
    parser.add_argument("--rows", type=int)
    options = parser.parse_args()
    limit_kernel_threads()
    for name in options.data:
        data = DATA[name][0](options.rows or DATA[name][1])
        print(
            f"\n| {name}, {len(data.rows):,} rows | nq | ours, µs | beside | its size, MB |", end=""
        )
        print(" µs | ratio |\n|---|---|---|---|---|---|---|")
        for index_type in options.only:
            variants = VARIANTS[index_type]
            made = build(index_type, data)
            index = made.opened(data, variants[-1].refines)
            data.segment.attach_index("vector", index)
            for variant in variants[1:] or variants:
                measure(data, made, index, variant)


if __name__ == "__main__":
    main()
