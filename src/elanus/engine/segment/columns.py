"""Where a sealed segment's columns come from."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class SegmentColumns(Protocol):
    """A segment's columns where they are mapped. Rows are sorted by (primary key, insert ts)."""

    @property
    def row_count(self) -> int: ...

    @property
    def timestamps(self) -> npt.NDArray[np.uint64]:
        """uint64 (rows,): insert timestamps."""
        ...

    def has_column(self, name: str) -> bool:
        """Whether the segment was written with this field, scalar or vector."""
        ...

    def column(self, name: str) -> pa.Array:
        """A scalar field's column, of the schema's Arrow type."""
        ...

    def bounds(self, name: str) -> tuple[Any, Any] | None:
        """The least and the greatest of a scalar field's values that are neither null nor NaN;
        None if they aren't known."""
        ...

    def vectors(self, name: str) -> Any:
        """A vector field's column: a C-contiguous NumPy array (rows, width), or an Arrow array of
        the field's type."""
        ...
