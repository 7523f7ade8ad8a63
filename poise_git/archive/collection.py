"""Python's garbage collector, out of the way of what builds much and drops little."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection in a block, or in a function that this decorates; what is without references is freed all the same.

    Among ten thousand candidates the collector would walk through all of them again and again, for a quarter of the
    time, and find nothing. Mercurial does the same where it builds large structures (`util.nogc`).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
