"""Pause Python's garbage collector while code builds large structures and frees little."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause collection in a block or a decorated function; objects without references are still freed.

    With ten thousand candidates the collector would traverse all of them again and again, for a quarter of the time,
    and find nothing. Mercurial does the same where it builds large structures (`util.nogc`).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
