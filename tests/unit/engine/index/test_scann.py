"""SCANN's codes: coarse ones choose, finer ones rank, where these tell rows apart."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.unit.engine.index.dense_indexes import Searchable, built, walking

from elanus.engine.index.dense import scann_training
from elanus.engine.index.dense.families import open_index
from elanus.engine.index.dense.neighbours import prepare_queries
from elanus.engine.index.dense.scann import ScannIndex
from elanus.errors import CorruptData
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

__all__ = ["walking"]
pytestmark = pytest.mark.usefixtures("walking")
ROWS, DIM, QUERIES, TOP_K = 8_000, 32, 40, 10
PARAMS = {"nlist": "32"}
ASKED = {"nprobe": 16, "reorder_k": 200}


def drawn(distance: float) -> np.ndarray:
    """Rows, then queries, around a point so far from 0."""
    random = np.random.default_rng(3)
    mixed = random.standard_normal((ROWS + QUERIES, 12)) @ random.standard_normal((12, DIM))
    return (distance + mixed + 0.3 * random.standard_normal(mixed.shape)).astype(np.float32)


def recall(index: Searchable, vectors: np.ndarray, top_k: int = TOP_K) -> float:
    rows, queries = np.split(vectors.astype(np.float64), [ROWS])
    if index.metric is MetricType.L2:
        similar = -((queries[:, None] - rows[None]) ** 2).sum(-1)
    else:
        units = rows / np.linalg.norm(rows, axis=1)[:, None]
        similar = queries @ units.T
    truth = np.argsort(-similar, axis=1)[:, :top_k]
    query = VectorQuery("v", index.metric, vectors[ROWS:], top_k, ASKED)
    found = index.search(query).offsets.reshape(QUERIES, top_k)
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(found, truth, strict=True)]))


def file_of(folder: Path, metric: MetricType) -> Path:
    return folder / f"SCANN-{metric}"


@pytest.fixture
def unmoved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library gets rows that are far from 0 as they are."""
    monkeypatch.setattr(scann_training, "are_blurred", lambda _: False)


@pytest.mark.usefixtures("unmoved")
def test_the_best_are_found_whether_or_not_bytes_tell_rows_apart(tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    sizes = []
    for folder, distance in ((near, 0.0), (far, 1_000.0)):
        folder.mkdir()
        vectors = drawn(distance)
        index = built(folder, "SCANN", MetricType.L2, vectors[:ROWS], PARAMS)
        assert recall(index, vectors) >= 0.95
        assert isinstance(index.index, ScannIndex)
        sizes.append(index.index.size_bytes)
    # Finer codes that are of no use take no memory.
    assert sizes[0] > sizes[1] + 0.9 * ROWS * DIM


def test_one_query_finds_what_many_find(tmp_path: Path) -> None:
    vectors = drawn(0.0)
    index = built(tmp_path, "SCANN", MetricType.COSINE, vectors[:ROWS], PARAMS)
    many = index.search(VectorQuery("v", MetricType.COSINE, vectors[ROWS:], TOP_K, ASKED))
    for number in range(QUERIES):
        one = vectors[ROWS + number : ROWS + number + 1]
        found = index.search(VectorQuery("v", MetricType.COSINE, one, TOP_K, ASKED))
        own = slice(number * TOP_K, (number + 1) * TOP_K)
        np.testing.assert_array_equal(found.offsets, many.offsets[own])
        np.testing.assert_allclose(found.similarities, many.similarities[own], rtol=1e-6)


@pytest.mark.parametrize("top_k", [1, 40])
def test_few_and_many_hits_are_found(tmp_path: Path, top_k: int) -> None:
    vectors = drawn(0.0)
    index = built(tmp_path, "SCANN", MetricType.L2, vectors[:ROWS], PARAMS)
    assert recall(index, vectors, top_k) >= 0.95


@pytest.mark.usefixtures("unmoved")
def test_a_file_of_the_first_version_opens_and_finds_the_best(tmp_path: Path) -> None:
    vectors = drawn(1_000.0)
    index = built(tmp_path, "SCANN", MetricType.L2, vectors[:ROWS], PARAMS)
    path = file_of(tmp_path, MetricType.L2)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(files["elanus.json"])
    for key in ("fine_codes", "origin", "by_distance", "reach"):
        del described[key]
    files["elanus.json"] = json.dumps(described).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    opened = open_index(str(path), "SCANN", MetricType.L2, ROWS, DIM, PARAMS)
    old = Searchable(opened, vectors[:ROWS], MetricType.L2)
    assert recall(old, vectors) == recall(index, vectors) >= 0.95


def test_a_flipped_byte_in_any_part_is_refused(tmp_path: Path) -> None:
    vectors = prepare_queries(drawn(0.0)[:ROWS], MetricType.COSINE)
    built(tmp_path, "SCANN", MetricType.COSINE, vectors, PARAMS)
    path = file_of(tmp_path, MetricType.COSINE)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = [info for info in archive.infolist() if info.file_size]
    assert len(parts) > 5
    for info in parts:
        damaged = bytearray(whole)
        # Behind the name of the part stands its content.
        start = whole.index(info.filename.encode(), info.header_offset) + len(info.filename)
        damaged[start + info.file_size // 2] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(CorruptData, match=str(path)):
            open_index(str(path), "SCANN", MetricType.COSINE, ROWS, DIM, PARAMS)
