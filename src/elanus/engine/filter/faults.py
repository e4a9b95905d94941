"""Faults: what the stages of the compiler raise among themselves; ``compile`` words the error."""

from collections.abc import Collection


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


def no_such_field(name: str, structs: Collection[str], position: int) -> Fault:
    """The fault of a name that no field has. ``structs``: the arrays of structs that there are."""
    struct, bracket, _ = name.partition("[")
    if not bracket or struct in structs:
        return Fault(f"field {name} not exist", position)
    return Fault(
        f'json key must be enclosed in double quotes or single quotes: "{name}"',
        position + len(struct) + 1,
    )
