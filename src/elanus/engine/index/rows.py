"""A set of a segment's rows, in the forms that kernels want: mask, packed bits, ascending ids."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt


class RowSet:
    """Some of the rows ``0 … row_count-1``. Immutable; forms are made when first asked for.

    Bits are packed little-endian: row ``i`` is bit ``i % 8`` of byte ``i // 8``.
    """

    def __init__(
        self,
        row_count: int,
        *,
        mask: npt.NDArray[np.bool_] | None = None,
        packed: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        self.row_count = row_count
        if mask is not None:
            self.__dict__["mask"] = mask
        if packed is not None:
            self.__dict__["packed"] = packed
        if mask is None and packed is None:
            raise ValueError("a row set needs a mask or packed bits")

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """bool (row_count,)."""
        bits = np.unpackbits(self.packed, count=self.row_count, bitorder="little")
        return bits.view(np.bool_)

    @cached_property
    def packed(self) -> npt.NDArray[np.uint8]:
        """uint8 (ceil(row_count / 8),); bits past the last row are 0."""
        return np.packbits(self.mask, bitorder="little")

    @cached_property
    def count(self) -> int:
        """Number of rows in the set."""
        if "packed" in self.__dict__:
            return int(np.bitwise_count(self.packed).sum(dtype=np.int64))
        return int(np.count_nonzero(self.mask))

    @cached_property
    def ids(self) -> npt.NDArray[np.int64]:
        """int64 (count,), ascending."""
        return np.flatnonzero(self.mask)

    @property
    def density(self) -> float:
        return self.count / self.row_count if self.row_count else 0.0

    def __and__(self, other: "RowSet") -> "RowSet":
        if "mask" in self.__dict__ and "mask" in other.__dict__:
            return RowSet(self.row_count, mask=self.mask & other.mask)
        return RowSet(self.row_count, packed=self.packed & other.packed)

    @property
    def size_bytes(self) -> int:
        held: Any = (self.__dict__.get(name) for name in ("mask", "packed", "ids"))
        return sum(array.nbytes for array in held if array is not None)


def intersect(first: RowSet | None, second: RowSet | None) -> RowSet | None:
    """Rows in both; None stands for all rows."""
    if first is None:
        return second
    if second is None:
        return first
    return first & second
