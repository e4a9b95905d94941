"""Recall, memory and time of indexes, without a filter and with filters of every kind.

Each measurement is a :class:`Step`, and is kept in benchmarks/results/indexes.json when it is done,
so that a run that is broken off, or that measures a part anew, loses nothing. Times are processor
time, so that what else the machine does counts less.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine import kept_rows, timed
from benchmarks.index_data import RECALL_QUERIES, Data, build
from elanus.engine.index.dense.neighbours import Neighbours, prepare_queries
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.column import joined
from elanus.model.reads import Snapshot

RESULTS = Path(__file__).parent / "results" / "indexes.json"
NOW = Snapshot(1 << 60)
SAME_SCORE = 1e-6
"""Scores of one row that differ by no more may be rounding."""
SINGLE_QUERIES, BATCH, BATCH_QUERIES = 100, 100, 200


@dataclass(frozen=True)
class Variant:
    """How an index is searched. refines: it was built with ``refine``."""

    params: dict[str, Any] = field(default_factory=dict)
    refines: bool = False

    def __str__(self) -> str:
        shown = [f"{name}={value}" for name, value in self.params.items()]
        return " ".join((["refine=true"] if self.refines else []) + shown)


DEFAULT = Variant()
DOCUMENTED: dict[str, Variant] = {
    "HNSW": Variant({"ef": 160}),
    "SCANN": Variant({"nprobe": 64, "reorder_k": 200}),
    "DISKANN": Variant({"search_list": 300}),
    "AUTOINDEX": DEFAULT,
}
"""At which recall is to hold, with filters too."""
VARIANTS: dict[str, tuple[Variant, ...]] = {
    "IVF_FLAT": (DEFAULT, Variant({"nprobe": 16})),
    "IVF_SQ8": (DEFAULT, Variant({"nprobe": 16, "refine_k": 2}, True)),
    "IVF_PQ": (DEFAULT, Variant({"nprobe": 16, "refine_k": 10}, True)),
    "IVF_RABITQ": (DEFAULT, Variant({"nprobe": 16, "refine_k": 20}, True)),
    "SCANN": (DEFAULT, Variant({"nprobe": 16, "reorder_k": 200}), DOCUMENTED["SCANN"]),
    "HNSW": (DEFAULT, DOCUMENTED["HNSW"]),
    "HNSW_SQ": (DEFAULT, Variant({"ef": 160, "refine_k": 2}, True)),
    "HNSW_PQ": (DEFAULT, Variant({"ef": 200, "refine_k": 10}, True)),
    "HNSW_PRQ": (DEFAULT, Variant({"ef": 200, "refine_k": 20}, True)),
    "DISKANN": (DEFAULT, DOCUMENTED["DISKANN"]),
    "AUTOINDEX": (DEFAULT,),
    "BIN_IVF_FLAT": (DEFAULT, Variant({"nprobe": 32})),
    "SPARSE_INVERTED_INDEX": (
        DEFAULT,
        Variant({"drop_ratio_search": 0.2}),
        Variant({"drop_ratio_search": 0.2, "refine_factor": 3}),
    ),
    "SPARSE_WAND": (DEFAULT, Variant({"drop_ratio_search": 0.2})),
}
OTHERS = ("BIN_IVF_FLAT", "SPARSE_INVERTED_INDEX", "SPARSE_WAND")
TYPES: dict[str, tuple[str, ...]] = {
    "words": tuple(name for name in VARIANTS if name not in OTHERS),
    "clustered": tuple(name for name in VARIANTS if name not in OTHERS),
    "bits": OTHERS[:1],
    "terms": OTHERS[1:],
}
"""The types that are measured on each data."""
KINDS, PARTS = ("random", "near", "far"), (0.5, 0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Step:
    """One measurement. ``run`` returns what it found, in a line."""

    name: str
    run: Callable[[], str]


class Results:
    """What was measured: ``kept["tables"][data][index and parameters]`` and
    ``kept["filters"][data][filter][index]``."""

    def __init__(self, path: Path = RESULTS) -> None:
        self._path = path

    @property
    def kept(self) -> dict[str, Any]:
        if self._path.exists():
            return dict(json.loads(self._path.read_text()))
        return {"data": {}, "tables": {}, "filters": {}}

    def keep(self, data: Data, part: str, keys: tuple[str, ...], value: dict[str, Any]) -> None:
        # Read anew: another run may have measured something else meanwhile.
        kept = self.kept
        kept["data"][data.name] = {
            "rows": len(data.rows),
            "dim": data.dim,
            "raw_bytes": data.raw_bytes,
        }
        place = kept[part].setdefault(data.name, {})
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(kept, indent=1))


def recall(found: Neighbours, truth: Neighbours) -> float:
    """The part of the hits that are there. A hit is right if it is as near as the last of the true
    ones: of rows that are equally near, any will do."""
    right, first, start = 0, 0, 0
    for count, wanted in zip(found.counts.tolist(), truth.counts.tolist(), strict=True):
        if wanted:
            bar = truth.similarities[first + wanted - 1] - SAME_SCORE
            right += min(int((found.similarities[start : start + count] >= bar).sum()), wanted)
        first, start = first + wanted, start + count
    return right / max(1, len(truth.offsets))


def search_segment(data: Data, params: dict[str, Any], nq: int, count: int) -> None:
    for start in range(0, count, nq):
        data.segment.search(data.asked(data.queries[start : start + nq], params), NOW, None)


def table_steps(
    load: Callable[[], Data], name: str, types: list[str], results: Results
) -> list[Step]:
    """Of every type: its build, then each way to search it."""
    steps = []
    for index_type in types:

        def built(index_type: str = index_type) -> str:
            return f"{build(index_type, load()).cpu_s:.1f} s"

        steps.append(Step(f"{name}: {index_type} built", built))
        for variant in VARIANTS[index_type]:

            def searched(index_type: str = index_type, variant: Variant = variant) -> str:
                row = _table_row(load(), index_type, variant)
                results.keep(load(), "tables", (f"{index_type} {variant}".strip(),), row)
                return f"recall {row['recall']:.3f}, {row['single_us']:.0f} us"

            steps.append(Step(f"{name}: {index_type} {variant}".strip(), searched))
    return steps


def _table_row(data: Data, index_type: str, variant: Variant) -> dict[str, Any]:
    made = build(index_type, data)
    index = made.opened(data, variant.refines)
    data.segment.attach_index("vector", index)
    # One by one: many queries together may be cheaper to answer by a scan, which is exact.
    found = [
        index.search(data.column, data.asked(data.queries[i : i + 1], variant.params), None)
        for i in range(RECALL_QUERIES)
    ]

    def time_of(nq: int, count: int) -> float:
        return timed(lambda: search_segment(data, variant.params, nq, count)) / count * 1e6

    return {
        "index": index_type,
        "params": str(variant),
        "build_s": made.cpu_s,
        "file_bytes": made.path.stat().st_size,
        "memory_bytes": index.size_bytes,
        "recall": recall(joined(found), data.truth),
        "single_us": time_of(1, SINGLE_QUERIES),
        "batch_us": time_of(BATCH, BATCH_QUERIES),
    }


class FilteredSearches:
    """Searches of ``count`` queries by the indexes of ``types``, under one filter after another."""

    def __init__(
        self, load: Callable[[], Data], name: str, types: list[str], count: int, results: Results
    ) -> None:
        self._load = load
        self._name = name
        self._types = types
        self._count = count
        self._results = results

    def steps(self) -> list[Step]:
        return [
            Step(f"{self._name}: {kind} {part}", lambda kind=kind, part=part: self._run(kind, part))
            for kind in KINDS
            for part in PARTS
        ]

    @cached_property
    def _unit(self) -> tuple[np.ndarray, np.ndarray]:
        data = self._load()
        queries = prepare_queries(data.queries[: self._count], data.metric)
        return prepare_queries(data.rows, data.metric), queries

    def _run(self, kind: str, part: float) -> str:
        data = self._load()
        kept = list(kept_rows(kind, part, *self._unit))
        queries = data.queries[: self._count]
        truths = [data.exact(queries[i : i + 1], rows) for i, rows in enumerate(kept)]
        said = []
        for index_type in self._types:
            found = self._measured(index_type, data, kept, truths)
            self._results.keep(data, "filters", (f"{kind} {part}", index_type), found)
            said.append(f"{index_type} {found['recall']:.3f} {found['single_us']:.0f} us")
        return ", ".join(said)

    def _measured(
        self, index_type: str, data: Data, kept: list[RowSet], truths: list[Neighbours]
    ) -> dict[str, Any]:
        variant = DOCUMENTED[index_type]
        index = build(index_type, data).opened(data, variant.refines)
        scores, seconds = [], 0.0
        for number, (rows, truth) in enumerate(zip(kept, truths, strict=True)):
            asked = data.asked(data.queries[number : number + 1], variant.params)
            start = time.process_time()
            found = index.search(data.column, asked, rows)
            seconds += time.process_time() - start
            scores.append(recall(found, truth))
        return {
            "params": str(variant),
            "recall": float(np.mean(scores)),
            "worst": float(np.min(scores)),
            "single_us": seconds / len(kept) * 1e6,
        }
