"""A script that loads a server by way of pymilvus, in a process of its own, from its beginning to
its end: it writes lines while it runs, and ends when its standard input is closed."""

import subprocess
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

PYTHON = Path(__file__).parents[1] / ".clients" / "2.6" / "bin" / "python"
ERROR_CHARACTERS = 6_000


class ClientLoad(ABC):
    """A context manager; entered, the load is served."""

    def __init__(self, script: Path, uri: str, directory: Path, seed: int) -> None:
        if not PYTHON.exists():
            pytest.skip("pymilvus 2.6 is not installed: run `make clients`")
        self._errors = (directory / "load.log").open("w+")
        self._process = subprocess.Popen(
            [PYTHON, script, uri, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._take(line)
        self._ended()

    @abstractmethod
    def _take(self, line: str) -> None:
        """A line of the script. Called on a thread."""

    def _ended(self) -> None:  # noqa: B027 - not everybody wants to know
        """There are no more lines. Called on the same thread."""

    @abstractmethod
    def _wait_until_served(self) -> None: ...

    def _tell_to_end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _wait_for_end(self, timeout_s: float) -> None:
        assert self._process.wait(timeout_s) == 0, self.errors()
        self._reader.join()

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-ERROR_CHARACTERS:]

    def __enter__(self) -> Self:
        try:
            self._wait_until_served()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()
