"""What the matches of words ask of a text index, which answers for a whole column.

How a text becomes tokens is the field's matter, for the rows and for the query alike.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import pyarrow as pa

from elanus.engine.filter.arrays import Bools


class TextIndex(Protocol):
    """Which rows of one column match. Rows that are null match nothing."""

    def match(self, query: str, minimum: int) -> Bools:
        """At least ``minimum`` of the query's tokens occur, bool (rows,); a token that the query
        has twice counts twice. A query without tokens matches nothing."""
        ...

    def match_phrase(self, query: str, slop: int) -> Bools:
        """The query's tokens occur in order, displaced by at most ``slop`` in all, bool (rows,)."""
        ...

    def match_fuzzy(self, query: str, distance: int) -> Bools:
        """A token occurs at most ``distance`` edits from one of the query's, bool (rows,)."""
        ...


TextIndexes: TypeAlias = Callable[[str, pa.Array], TextIndex]
"""The index of a field's column, by the field's name."""
