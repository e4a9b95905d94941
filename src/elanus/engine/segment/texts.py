"""Finding words in the text columns of a segment: a field's analyzer and a token index, together.

An index is attached, or made when it is first asked for, and kept as long as the rows are; a query
that comes meanwhile waits for it rather than making another.
"""

import threading

import pyarrow as pa

from elanus.engine.filter.arrays import Bools
from elanus.engine.text.analyzer import Analyzer
from elanus.engine.text.fields import analyzer_for
from elanus.engine.text.index import TextIndex, build_text_index
from elanus.model.schema import FieldSchema


class ColumnTexts:
    """What a filter asks about the first ``row_count`` rows of one column."""

    def __init__(self, analyzer: Analyzer, index: TextIndex, row_count: int) -> None:
        self._analyzer = analyzer
        self._index = index
        self._row_count = row_count

    def match(self, query: str, minimum: int) -> Bools:
        rows = self._index.match(self._analyzer.tokens(query), minimum)
        return rows.mask[: self._row_count]

    def match_fuzzy(self, query: str, distance: int) -> Bools:
        rows = self._index.fuzzy(self._analyzer.tokens(query), distance)
        return rows.mask[: self._row_count]

    def match_phrase(self, query: str, slop: int) -> Bools:
        rows = self._index.phrase(self._analyzer.positioned(query), slop)
        return rows.mask[: self._row_count]


class SegmentTexts:
    """The token indexes of some rows, by field."""

    def __init__(self) -> None:
        self._indexes: dict[str, TextIndex] = {}
        self._making = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return sum(index.size_bytes for index in list(self._indexes.values()))

    def attach(self, field_name: str, index: TextIndex) -> None:
        self._indexes[field_name] = index

    def detach(self, field_name: str, index: TextIndex) -> None:
        """Forget this index, if it is still the field's."""
        if self._indexes.get(field_name) is index:
            del self._indexes[field_name]

    def of(self, field: FieldSchema, column: pa.Array, row_count: int) -> ColumnTexts:
        """``column``: all rows that these texts are of; ``row_count``: how many are asked for."""
        analyzer = analyzer_for(field)
        index = self._indexes.get(field.name)
        if index is None:
            with self._making:
                index = self._indexes.get(field.name)
                if index is None:
                    index = self._indexes[field.name] = build_text_index(analyzer, column)
        return ColumnTexts(analyzer, index, row_count)
