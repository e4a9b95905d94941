"""How frequent terms are in several segments."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.engine.segment.base import Segment


def sum_terms(
    segments: Sequence[Segment], field_name: str, terms: npt.NDArray[np.uint32]
) -> TermStatistics:
    """Runs in a thread."""
    total = TermStatistics.none(len(terms))
    for segment in segments:
        total += segment.term_statistics(field_name, terms)
    return total
