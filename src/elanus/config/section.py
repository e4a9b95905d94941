"""What all sections of the settings share: their base, and the types of common values."""

from typing import Annotated

import msgspec
from msgspec import Meta

SECRET = {"secret": True}
"""Mark of a value that is never shown: ``Meta(extra=SECRET)``."""


class Section(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """A section of ``elanus.yaml``; its keys are the fields' names in camel case."""


Positive = Annotated[int, Meta(gt=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
