"""Run one job in one process, stage by stage, with its evaluation divided over its devices."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from poise_git.archive.entries import Run
from poise_git.pipeline.interface import Backend, Cancelled, Demand, Evaluated, Job, OnProgress, Resources
from poise_git.pipeline.sandbox import Sandbox


def claim_of(demand: Demand) -> Resources:
    """The resources of a job from its first stage to its last."""
    training, evaluation = demand.training, demand.evaluation
    return Resources(max(training.cpus, evaluation.cpus), max(training.gpus, evaluation.gpus))


def shards_at_once(demand: Demand) -> int:
    """The number of shards that fit into the job's resources."""
    claim, shard = claim_of(demand), demand.evaluation
    by_gpus = claim.gpus // shard.gpus if shard.gpus else None
    by_cpus = int(claim.cpus / shard.cpus) if shard.cpus else None
    return max(1, min((fits for fits in (by_gpus, by_cpus) if fits is not None), default=1))


def carry_out(backend: Backend, job: Job, sandbox: Sandbox, on_progress: OnProgress, cancelled: threading.Event) -> Run:
    """Train, evaluate every shard, assemble.

    `job.gpus` are the devices of the whole job. `cancelled` belongs to this job: the first shard that fails sets it, to
    stop the others.

    Raises:
        RunFailed: the candidate's fault.
        Cancelled: `cancelled` was set.
    """
    demand = backend.demand(job.protocol)
    trained = backend.train(replace(job, gpus=job.gpus[: demand.training.gpus]), sandbox, on_progress, cancelled)
    shares: queue.SimpleQueue[tuple[int, ...]] = queue.SimpleQueue()
    at_once, each = shards_at_once(demand), demand.evaluation.gpus
    for number in range(at_once):
        shares.put(job.gpus[number * each : (number + 1) * each])

    def evaluate(shard: str) -> Evaluated:
        gpus = shares.get()
        try:
            return backend.evaluate(replace(job, gpus=gpus), trained, shard, sandbox, on_progress, cancelled)
        except BaseException:
            cancelled.set()
            raise
        finally:
            shares.put(gpus)

    with ThreadPoolExecutor(at_once, thread_name_prefix="shard") as pool:
        futures = [pool.submit(evaluate, shard) for shard in backend.shards(job.protocol)]
    return backend.assemble(job, trained, _results(futures))


def _results(futures: Sequence[Future[Evaluated]]) -> list[Evaluated]:
    """All results, or the error that stopped the others."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        raise next((error for error in errors if not isinstance(error, Cancelled)), errors[0])
    return [future.result() for future in futures]
