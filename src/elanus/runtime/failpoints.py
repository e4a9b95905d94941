"""Named places where a test can make the process die or an operation fail.

A failpoint stands before and after each durable step. Unset, it costs one dictionary look-up.
``ELANUS_FAILPOINTS=flush.before_commit=kill@3`` kills the process (SIGKILL) the third time.
"""

import os
import signal
from collections.abc import Callable

from elanus.errors import InternalError


class Failpoints:
    """A set of armed failpoints: name → action, called on each hit."""

    def __init__(self, specification: str = "") -> None:
        self._actions: dict[str, Callable[[], None]] = {}
        for part in filter(None, specification.split(",")):
            name, _, action = part.partition("=")
            kind, _, count = action.partition("@")
            self.arm(name, kind, int(count or 1))

    def arm(self, name: str, kind: str, on_hit: int = 1) -> None:
        """``kind`` is ``kill`` or ``error``; it happens at the ``on_hit``-th hit, once."""
        hits = 0

        def act() -> None:
            nonlocal hits
            hits += 1
            if hits != on_hit:
                return
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise InternalError(f"failpoint {name} was hit")

        self._actions[name] = act

    def arm_with(self, name: str, action: Callable[[], None]) -> None:
        """Call ``action`` at each hit; a simulation raises its crash there."""
        self._actions[name] = action

    def hit(self, name: str) -> None:
        action = self._actions.get(name)
        if action is not None:
            action()
