"""Backends by name. Adding one is a new package and a line here."""

from __future__ import annotations

from collections.abc import Callable

from poise_git.errors import UsageError
from poise_git.pipeline.interface import Backend


def _testbed() -> Backend:
    from poise_git.pipeline.backends.testbed.backend import TestbedBackend

    return TestbedBackend()


BACKENDS: dict[str, Callable[[], Backend]] = {"testbed": _testbed}


def backend_named(name: str) -> Backend:
    """Raises UsageError for an unknown name."""
    if name not in BACKENDS:
        raise UsageError(f"no backend {name!r}: choose one of {', '.join(sorted(BACKENDS))} in the protocol file")
    return BACKENDS[name]()
