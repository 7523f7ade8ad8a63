"""The layers of the sandbox that this machine lacks, and the effect on tests."""

from __future__ import annotations

from functools import cache

from poise_git.pipeline.boundary.hosting import Containment
from poise_git.pipeline.sandbox import isolation

MARKER = "needs_layers"


@cache
def lacking() -> tuple[str, ...]:
    """The names of the missing layers, in the order in which they are tested."""
    return tuple(dict.fromkeys(layer.name for layer in isolation() if not layer.up))


def containment() -> Containment:
    """The containment of candidates that tests write: missing layers are allowed, as a user would allow them."""
    return Containment(may_lack_layers=bool(lacking()))


def without_warning(text: str) -> str:
    """The output of a command without the warning about missing layers."""
    return "".join(line for line in text.splitlines(keepends=True) if "WARNING: the sandbox lacks" not in line)
