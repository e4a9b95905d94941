"""One index build, with no more imports than the process that does it needs."""

import os
from dataclasses import dataclass

from elanus.engine.index.base import Note
from elanus.engine.index.files import build_index
from elanus.engine.index.scalar.files import build_scalar_index
from elanus.engine.text.fields import ANALYZER_PARAMS
from elanus.engine.text.index import build_text_index, write_text_index
from elanus.engine.text.parameters import analyzer_of
from elanus.model.catalog import TEXT_INDEX
from elanus.model.types import MetricType
from elanus.storage.formats.columns import map_column


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """metric: None for an index of scalars or tokens. column_path: the file of the column, in any
    of its forms. out_path: where the index file goes. threads: 0 = one per core."""

    index_type: str
    metric: MetricType | None
    params: dict[str, str]
    column_path: str
    out_path: str
    threads: int


def run_build(request: BuildRequest, note: Note) -> int:
    """Build in the calling thread; the number of rows."""
    column = map_column(request.column_path)
    if request.index_type == TEXT_INDEX:
        analyzer = analyzer_of(request.params.get(ANALYZER_PARAMS, ""))
        texts = build_text_index(analyzer, column)
        write_text_index(texts, request.out_path)
        return texts.row_count
    if request.metric is None:
        return build_scalar_index(request.index_type, request.params, column, request.out_path)
    return build_index(
        request.index_type,
        request.metric,
        request.params,
        column,
        request.out_path,
        request.threads or os.cpu_count() or 1,
        note,
    )
