"""Bitmaps of filters over sealed segments, kept while they fit; the least used go first."""

import threading
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

ENTRY_OVERHEAD_BYTES = 512


class BitmapCache:
    """Packed bitmaps by (owner, key), at most ``limit_bytes`` in all. Safe in many threads.

    An owner is one loaded copy of a segment; its rows never change, so its bitmaps never do.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[tuple[int, str], npt.NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, owner: int, key: str) -> npt.NDArray[np.uint8] | None:
        with self._lock:
            found = self._entries.get((owner, key))
            if found is not None:
                self._entries.move_to_end((owner, key))
            return found

    def put(self, owner: int, key: str, packed: npt.NDArray[np.uint8]) -> None:
        """A bitmap larger than the whole cache is not kept."""
        size = self._size(key, packed)
        if size > self.limit_bytes:
            return
        with self._lock:
            self._drop((owner, key))
            self._entries[(owner, key)] = packed
            self.used_bytes += size
            while self.used_bytes > self.limit_bytes:
                self._drop(next(iter(self._entries)))

    def forget(self, owner: int) -> None:
        """Drop what belongs to an owner that is gone."""
        with self._lock:
            for entry in [entry for entry in self._entries if entry[0] == owner]:
                self._drop(entry)

    def _drop(self, entry: tuple[int, str]) -> None:
        packed = self._entries.pop(entry, None)
        if packed is not None:
            self.used_bytes -= self._size(entry[1], packed)

    @staticmethod
    def _size(key: str, packed: npt.NDArray[np.uint8]) -> int:
        return packed.nbytes + len(key) + ENTRY_OVERHEAD_BYTES
