"""The bundled sample: 10,000 English words with their rank by frequency and a 100-d vector.

Where it comes from and its licence stand in ``LICENSE.words`` beside this file.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

PATH = Path(__file__).parent / "words.parquet"
DIMENSION = 100


@dataclass(frozen=True)
class Sample:
    """words: in order of frequency. ranks: int32 (rows,), from 1. vectors: float32 (rows, 100)."""

    words: list[str]
    ranks: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float32]


def load_sample() -> Sample:
    table = pq.read_table(PATH).combine_chunks()
    vectors = table["vector"].chunk(0).flatten().to_numpy().reshape(-1, DIMENSION)
    return Sample(table["word"].to_pylist(), table["rank"].to_numpy(), vectors)
