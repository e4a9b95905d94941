"""One index build, with no more imports than the process that does it needs."""

import os
from dataclasses import dataclass

from elanus.engine.index.files import build_index
from elanus.model.types import MetricType
from elanus.storage.formats.columns import map_column


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """vectors_path: the file of a column, in any of its forms. out_path: where the index file
    goes. threads: 0 = one per core."""

    index_type: str
    metric: MetricType
    params: dict[str, str]
    vectors_path: str
    out_path: str
    threads: int


def run_build(request: BuildRequest) -> int:
    """Build in the calling thread; the number of rows."""
    return build_index(
        request.index_type,
        request.metric,
        request.params,
        map_column(request.vectors_path),
        request.out_path,
        request.threads or os.cpu_count() or 1,
    )
