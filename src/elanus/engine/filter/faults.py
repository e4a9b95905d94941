"""Faults: what the stages of the compiler raise among themselves; ``compile`` words the error."""


class Fault(Exception):
    """A filter that can't be used, at ``position`` (0-based character offset).

    kind says how the message is composed: ``syntax`` tells line and column, ``type`` is wrapped as
    "cannot parse expression", ``bare`` stands alone (template values, not boolean at the top).
    """

    def __init__(self, reason: str, position: int, kind: str = "type") -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position
        self.kind = kind
