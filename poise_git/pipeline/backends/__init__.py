"""Backends by name. To add one, write a package with its kind, and an entry here."""

from __future__ import annotations

from poise_git.errors import UsageError
from poise_git.pipeline.backends.kind import BackendKind
from poise_git.pipeline.backends.testbed import Testbed
from poise_git.pipeline.backends.verl import Verl

BACKENDS: dict[str, BackendKind] = {kind.name: kind for kind in (Testbed(), Verl())}
DEFAULT_BACKEND = Testbed.name


def backend_named(name: str) -> BackendKind:
    """Return the backend of this name. Raises UsageError for an unknown name."""
    if name not in BACKENDS:
        raise UsageError(f"no backend {name!r}: choose one of {', '.join(sorted(BACKENDS))} in the protocol file")
    return BACKENDS[name]
