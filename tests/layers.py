"""Which layers of the sandbox this machine lacks, and what that means for tests."""

from __future__ import annotations

from functools import cache

from poise_git.pipeline.boundary.hosting import Containment
from poise_git.pipeline.sandbox import isolation

MARKER = "needs_layers"


@cache
def lacking() -> tuple[str, ...]:
    """The names of the missing layers, in the order in which they are tried."""
    return tuple(dict.fromkeys(layer.name for layer in isolation() if not layer.up))


def containment() -> Containment:
    """Of candidates that tests wrote: they run where layers are missing, as a user would allow who runs them."""
    return Containment(may_lack_layers=bool(lacking()))


def without_warning(text: str) -> str:
    """What a command printed, but for the warning that this machine lacks layers."""
    return "".join(line for line in text.splitlines(keepends=True) if "WARNING: the sandbox lacks" not in line)
