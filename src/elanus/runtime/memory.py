"""One ledger of the process's memory: what is about to be allocated is accounted for first."""

from collections import Counter

from elanus.errors import MemoryLimitExceeded


class MemoryLedger:
    """Bytes in use by category, under one limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._used: Counter[str] = Counter()

    @property
    def used_bytes(self) -> int:
        return self._used.total()

    def used_by_category(self) -> dict[str, int]:
        return dict(self._used)

    def reserve(self, category: str, size_bytes: int) -> None:
        """Raises MemoryLimitExceeded if ``size_bytes`` more would pass the limit."""
        if self.used_bytes + size_bytes > self.limit_bytes:
            raise MemoryLimitExceeded(
                f"{category} needs {size_bytes} bytes, {self.limit_bytes - self.used_bytes} of "
                f"{self.limit_bytes} are left: memory limit exceeded"
            )
        self._used[category] += size_bytes

    def account(self, category: str, size_bytes: int) -> None:
        """Note what is there already and can't be refused, whatever the limit."""
        self._used[category] += size_bytes

    def release(self, category: str, size_bytes: int) -> None:
        self._used[category] -= size_bytes
