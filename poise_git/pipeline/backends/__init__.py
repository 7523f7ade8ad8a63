"""Backends by name. Adding one is a new package and a line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from poise_git.errors import UsageError
from poise_git.pipeline.equipment import Equipment
from poise_git.pipeline.estimate import CostEstimate
from poise_git.pipeline.interface import Backend
from poise_git.pipeline.protocol import Protocol


def _testbed() -> Backend:
    from poise_git.pipeline.backends.testbed.backend import TestbedBackend

    return TestbedBackend()


def _verl() -> Backend:
    from poise_git.pipeline.backends.verl.backend import VerlBackend

    return VerlBackend()


BACKENDS: dict[str, Callable[[], Backend]] = {"testbed": _testbed, "verl": _verl}


def backend_named(name: str) -> Backend:
    """Raises UsageError for an unknown name."""
    if name not in BACKENDS:
        raise UsageError(f"no backend {name!r}: choose one of {', '.join(sorted(BACKENDS))} in the protocol file")
    return BACKENDS[name]()


def estimate_cost(protocol: Protocol, file: str) -> CostEstimate:
    """What one run of `protocol`, which was read from `file`, costs; nothing runs and nothing optional is loaded.

    Raises:
        SettingsError: the protocol is wrong.
        UsageError: an unknown backend, or one that cannot tell.
    """
    if protocol.backend == "testbed":
        from poise_git.pipeline.backends.testbed.estimate import estimate_cost as estimate
    elif protocol.backend == "verl":
        from poise_git.pipeline.backends.verl.estimate import estimate_cost as estimate
    else:
        raise UsageError(f"the backend {protocol.backend!r} of protocol {protocol.name} has no estimate")
    return estimate(protocol, file)


def obstacles(protocol: Protocol, file: str, machine: Equipment, base: Path) -> tuple[str, ...]:
    """Why `protocol` cannot run on `machine`, one line each; its paths are relative to `base`.

    Raises:
        SettingsError: the protocol is wrong.
        UsageError: an unknown backend.
    """
    if protocol.backend == "verl":
        from poise_git.pipeline.backends.verl.obstacles import obstacles as found

        return found(protocol, file, machine, base)
    # Whatever else one needs has come with poise-git, but a task's own package, which validation looks for.
    backend_named(protocol.backend).validate(protocol, file)
    return ()


def files_named(protocol: Protocol, file: str) -> tuple[str, ...]:
    """The paths that `protocol`, which was read from `file`, names, as it names them.

    Raises:
        SettingsError: the protocol is wrong.
    """
    if protocol.backend != "verl":
        return ()
    from poise_git.pipeline.backends.verl.obstacles import files_named as named
    from poise_git.pipeline.backends.verl.settings import parse_settings

    return named(parse_settings(protocol, file))
