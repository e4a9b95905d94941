"""When Python's garbage collector may look through what there is."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """The garbage collector waits, and never looks at what there is in the end.

    For what is made once and stays: a leader's metadata, through which looking would hold the event
    loop up, and the program's own modules, whose import takes a fifth longer otherwise.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
