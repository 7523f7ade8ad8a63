"""The workers' side: run one stage of an order in the worker's own sandbox and scratch folder."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from poise_git.errors import RunFailed
from poise_git.pipeline.backends import backend_named
from poise_git.pipeline.executors.machine import visible_gpus
from poise_git.pipeline.executors.ray.orders import Failed, Figures, Order, pack, unpack
from poise_git.pipeline.interface import Backend, Evaluated, Job, Progress, Trained
from poise_git.pipeline.sandbox import Sandbox
from poise_git.pipeline.sandbox.removal import fresh_folder
from poise_git.settings import SandboxSettings

# Seconds between two reports of a stage.
_PACE = 0.2


def train(order: Order, board: Any) -> tuple[Figures | Failed, bytes | None]:
    """Prepare this machine and train. The weights are returned as a separate object, or stay in the shared folder."""
    reporter = _Reporter(board, order.key)
    with _workspace(order) as job:
        backend, sandbox = _backend(job), _sandbox(SandboxSettings.model_validate(order.sandbox))
        try:
            backend.prepare(job.protocol, sandbox, reporter.report, workers=1)
            trained = backend.train(job, sandbox, reporter.report, threading.Event())
        except RunFailed as failure:
            return Failed(failure.stage, failure.reason), None
        weights = trained.weights.relative_to(job.scratch)
        figures = Figures(dict(trained.series), str(weights), trained.cpu_seconds, trained.isolation)
        return figures, None if order.shared else pack(trained.weights)


def evaluate(order: Order, figures: Figures, parcel: bytes | None, shard: str, board: Any) -> Evaluated | Failed:
    reporter = _Reporter(board, order.key)
    with _workspace(order) as job:
        weights = job.scratch / figures.weights
        if parcel is not None:
            unpack(parcel, weights)
        backend, sandbox = _backend(job), _sandbox(SandboxSettings.model_validate(order.sandbox))
        trained = Trained(figures.series, weights, figures.cpu_seconds, figures.isolation)
        try:
            backend.prepare(job.protocol, sandbox, reporter.report, workers=1)
            return backend.evaluate(job, trained, shard, sandbox, reporter.report, threading.Event())
        except RunFailed as failure:
            return Failed(failure.stage, failure.reason)


def _backend(job: Job) -> Backend:
    return backend_named(job.protocol.backend).open()


@functools.cache
def _sandbox(settings: SandboxSettings) -> Sandbox:
    """The sandbox of this worker process, shared by its many tasks. The sandbox's server ends with the process."""
    return Sandbox(settings)


@contextmanager
def _workspace(order: Order) -> Iterator[Job]:
    """The job in its scratch folder: the shared one, with an earlier attempt's checkpoints, or a new one."""
    # Ray has made exactly the task's devices visible, by index or by UUID.
    gpus = visible_gpus() if ray.get_gpu_ids() else ()
    if order.shared:
        shared = Path(order.shared)
        shared.mkdir(parents=True, exist_ok=True)
        yield order.job(shared, gpus)
        return
    with fresh_folder() as scratch:
        yield order.job(scratch, gpus)


class _Reporter:
    """Report the progress of a stage to the board at a limited rate. A report may be lost between threads."""

    def __init__(self, board: Any, key: str) -> None:
        self._board, self._key = board, key
        self._next = 0.0

    def report(self, progress: Progress) -> None:
        now = time.monotonic()
        if now >= self._next or progress.done == progress.total:
            self._next = now + _PACE
            self._board.report.remote(self._key, progress)
