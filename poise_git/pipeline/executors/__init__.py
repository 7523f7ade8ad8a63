"""Executors by name. They take jobs, run them somewhere, and yield their outcomes as they end.

To add one, write a file or a package here, and an entry below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from poise_git.errors import UsageError
from poise_git.pipeline.executors.interface import Executor
from poise_git.pipeline.executors.local import LocalExecutor
from poise_git.pipeline.executors.machine import Machine
from poise_git.pipeline.interface import Backend
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import PoiseSettings


@dataclass(frozen=True)
class Surrounding:
    """The surroundings of an executor: it runs `protocol` with `backend`, for the archive at `archive`."""

    settings: PoiseSettings
    backend: Backend
    protocol: Protocol
    sandbox: Sandbox
    archive: Path


Opener = Callable[[Surrounding], AbstractContextManager[Executor]]


@contextmanager
def _local(around: Surrounding) -> Iterator[Executor]:
    machine = Machine.here(around.settings.executor.gpus)
    demand = around.backend.demand(around.protocol)
    yield LocalExecutor(around.backend, around.sandbox, demand, machine, around.settings.workers)


@contextmanager
def _ray(around: Surrounding) -> Iterator[Executor]:
    from poise_git.pipeline.executors.ray.cluster import join_cluster
    from poise_git.pipeline.executors.ray.executor import RayExecutor, board_name

    settings, demand = around.settings, around.backend.demand(around.protocol)
    with (
        join_cluster(settings.executor.address, settings.executor.gpus) as cluster,
        RayExecutor(cluster, around.backend, demand, settings, board_name(around.archive)) as executor,
    ):
        yield executor


EXECUTORS: Mapping[str, Opener] = {"local": _local, "ray": _ray}


def open_executor(
    settings: PoiseSettings, backend: Backend, protocol: Protocol, sandbox: Sandbox, archive: Path
) -> AbstractContextManager[Executor]:
    """Open the executor that `settings.executor` names, for runs of `protocol`; its processes end with the block.

    Raises:
        UsageError: the name is unknown, no machine can run a job of the protocol, or there is no cluster.
    """
    kind = settings.executor.kind
    if kind not in EXECUTORS:
        raise unknown_executor(kind)
    return EXECUTORS[kind](Surrounding(settings, backend, protocol, sandbox, archive))


def unknown_executor(name: str) -> UsageError:
    return UsageError(f"no executor {name!r}: choose one of {', '.join(sorted(EXECUTORS))}")
