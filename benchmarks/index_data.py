"""What indexes are measured on, and indexes built over it, which are kept in benchmarks/.cache.

*words*: 300,000 real vectors of 100 dimensions (``benchmarks.compare.data``). *clustered*: 100,000
vectors of 768 dimensions around 400 centres. *bits*: on which side of 512 planes each of the words
lies. *terms*: 100,000 sparse documents of about 80 terms, some frequent, most rare. All but the
words are made here, with one seed. Queries are rows that are not stored.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from benchmarks import sparse
from benchmarks.compare.data import CACHE, prepare
from benchmarks.engine import Columns
from elanus.access.ddl.index_parameters import resolve_index
from elanus.engine.index.base import VectorColumn, VectorIndex
from elanus.engine.index.dense.families import FAMILIES
from elanus.engine.index.dense.family import Source
from elanus.engine.index.dense.hnsw import HnswIndex, build_graph, write_graph
from elanus.engine.index.dense.neighbours import Neighbours
from elanus.engine.index.files import build_index, open_index
from elanus.engine.index.kinds import stored_column
from elanus.engine.index.rows import RowSet
from elanus.engine.segment.sealed import SealedSegment
from elanus.model.reads import VectorQuery
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType, MetricType

TOP_K = 10
BITS = 512
RECALL_QUERIES = 200
"""The first ones are searched for the recall."""
DIMENSIONS_OF_A_CODE = 4
"""Where m has no default, or one that does not divide the dimension."""


@dataclass(frozen=True)
class Data:
    """rows, queries: as a segment has them and as a search is asked, both by slices."""

    name: str
    data_type: DataType
    metric: MetricType
    rows: Any
    queries: Any
    dim: int = 0

    @cached_property
    def field(self) -> FieldSchema:
        params = {"dim": str(self.dim)} if self.dim else {}
        return FieldSchema(name="vector", data_type=self.data_type, type_params=params)

    @property
    def is_dense(self) -> bool:
        return self.data_type.is_dense_vector

    @property
    def raw_bytes(self) -> int:
        return int(self.rows.nbytes)

    @cached_property
    def column(self) -> VectorColumn:
        return stored_column(self.field, self.rows)

    @cached_property
    def truth(self) -> Neighbours:
        return self.exact(self.queries[:RECALL_QUERIES], None)

    @cached_property
    def segment(self) -> SealedSegment:
        key = FieldSchema(name="pk", data_type=DataType.INT64, is_primary=True)
        schema = CollectionSchema(name=self.name, fields=(key, self.field))
        stamps = np.arange(1, len(self.rows) + 1, dtype=np.uint64)
        columns = Columns(pa.array(np.arange(len(self.rows))), self.rows, stamps)
        return SealedSegment(schema, 1, 1, columns)

    def asked(self, queries: Any, params: dict[str, Any]) -> VectorQuery:
        return VectorQuery("vector", self.metric, queries, TOP_K, params)

    def exact(self, queries: Any, rows: RowSet | None) -> Neighbours:
        return self.column.search(self.asked(queries, {}), len(self.rows), rows, None)


def words(rows: int) -> Data:
    found = np.load(prepare(rows))
    stored, queries = found["rows"], found["queries"]
    return Data("words", DataType.FLOAT_VECTOR, MetricType.COSINE, stored, queries, 100)


def clustered(rows: int) -> Data:
    """Vectors around 400 centres of very different size; each centre's spread lies mostly in one
    of 40 subspaces of 24 dimensions."""
    path, dim = CACHE / "clustered.npy", 768
    if not path.exists():
        random = np.random.default_rng(5)
        centres = random.standard_normal((400, dim)).astype(np.float32)
        spread = random.standard_normal((40, 24, dim)).astype(np.float32) / np.sqrt(24)
        made = np.empty((101_000, dim), np.float32)
        for start in range(0, len(made), 1_000):
            centre = random.zipf(1.3, 1_000) % 400
            weights = random.standard_normal((1_000, 24)).astype(np.float32)
            around = np.einsum("ij,ijk->ik", weights, spread[centre % 40])
            noise = random.standard_normal((1_000, dim)).astype(np.float32)
            made[start : start + 1_000] = centres[centre] * 0.6 + around + 0.35 * noise
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(path, made)
    every = np.load(path, mmap_mode="r")
    stored, queries = np.array(every[: min(rows, 100_000)]), np.array(every[100_000:])
    return Data("clustered", DataType.FLOAT_VECTOR, MetricType.COSINE, stored, queries, dim)


def bits(rows: int) -> Data:
    known = words(rows)
    planes = np.random.default_rng(9).standard_normal((known.dim, BITS)).astype(np.float32)
    sides = [np.packbits(each @ planes > 0, axis=1) for each in (known.rows, known.queries)]
    return Data("bits", DataType.BINARY_VECTOR, MetricType.HAMMING, sides[0], sides[1], BITS)


def terms(rows: int) -> Data:
    random = np.random.default_rng(0)
    documents = sparse.as_column(sparse.drawn(random, rows, sparse.LENGTH))
    queries = sparse.as_column(sparse.drawn(random, RECALL_QUERIES, sparse.TERMS))
    return Data("terms", DataType.SPARSE_FLOAT_VECTOR, MetricType.IP, documents, queries)


DATA: dict[str, tuple[Callable[[int], Data], int]] = {
    "words": (words, 300_000),
    "clustered": (clustered, 100_000),
    "bits": (bits, 300_000),
    "terms": (terms, sparse.ROWS),
}
"""How each is had, and its number of rows."""


@dataclass(frozen=True)
class Build:
    """An index file. cpu_s: processor time of the one thread that built it."""

    index_type: str
    params: dict[str, str]
    path: Path
    cpu_s: float

    def opened(self, data: Data, refines: bool = False) -> VectorIndex:
        """``refines``: as if it had been built with ``refine``, which leaves the file as it is."""
        params = {**self.params, "refine": "true"} if refines else self.params
        rows = len(data.rows)
        return open_index(str(self.path), self.index_type, data.metric, rows, data.dim, params)


def params_of(index_type: str, data: Data) -> tuple[str, dict[str, str]]:
    """(the type that is built, its parameters): all of them defaults, but for m where it needs a
    value."""
    if index_type == "AUTOINDEX":
        resolved = resolve_index(data.field, {})
        return resolved.index_type, resolved.params
    given = {"index_type": index_type, "metric_type": data.metric.value}
    if index_type == "IVF_PQ" or (index_type == "HNSW_PQ" and data.dim % 32):
        given["m"] = str(data.dim // DIMENSIONS_OF_A_CODE)
    return index_type, resolve_index(data.field, given).params


def build(index_type: str, data: Data) -> Build:
    """The index file of this type, built unless it is there."""
    kind, params = params_of(index_type, data)
    stem = f"{data.name}-{len(data.rows)}-{index_type}"
    path, note = CACHE / f"{stem}.index", CACHE / f"{stem}.json"
    if not note.exists():
        family = FAMILIES.get(kind)
        seconds, start = 0.0, time.process_time()
        if family is not None and issubclass(family, HnswIndex):
            source = Source(data.metric, params, data.rows)
            graph, seconds = _graph(data, source, *family.shape(source))
            start = time.process_time()
            write_graph(kind, source, graph, str(path))
        else:
            build_index(kind, data.metric, params, data.rows, str(path))
        seconds += time.process_time() - start
        note.write_text(json.dumps({"cpu_s": seconds}))
    return Build(kind, params, path, float(json.loads(note.read_text())["cpu_s"]))


def _graph(data: Data, source: Source, links: int, effort: int) -> tuple[Any, float]:
    """The graph that several types share, and the processor time that it took, s."""
    stem = f"{data.name}-{len(data.rows)}-graph-{links}-{effort}"
    path, note = CACHE / f"{stem}.index", CACHE / f"{stem}.json"
    if not note.exists():
        start = time.process_time()
        faiss.write_index(build_graph(source, links, effort), str(path))
        note.write_text(json.dumps({"cpu_s": time.process_time() - start}))
    return faiss.read_index(str(path)), float(json.loads(note.read_text())["cpu_s"])
