"""Where jobs run. An executor takes jobs and yields their outcomes as they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poise_git.pipeline.executors.interface import Executor
from poise_git.pipeline.executors.local import LocalExecutor
from poise_git.pipeline.executors.machine import Machine
from poise_git.pipeline.interface import Backend
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import PoiseSettings


@contextmanager
def open_executor(
    settings: PoiseSettings, backend: Backend, protocol: Protocol, sandbox: Sandbox, archive: Path
) -> Iterator[Executor]:
    """The executor that `settings.executor` names, for runs of `protocol`; what it started ends with the block.

    Raises:
        UsageError: there is nowhere to run a single job of the protocol, or no cluster.
    """
    demand = backend.demand(protocol)
    if settings.executor.kind == "local":
        yield LocalExecutor(backend, sandbox, demand, Machine.here(settings.executor.gpus), settings.workers)
        return
    from poise_git.pipeline.executors.ray.cluster import join_cluster
    from poise_git.pipeline.executors.ray.executor import RayExecutor, board_name

    with (
        join_cluster(settings.executor.address, settings.executor.gpus) as cluster,
        RayExecutor(cluster, backend, demand, settings, board_name(archive)) as executor,
    ):
        yield executor
