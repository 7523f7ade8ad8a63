"""Run jobs on this machine: one thread per running job, which waits for the job's child processes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial

from poise_git.archive.entries import Run
from poise_git.errors import RunFailed
from poise_git.pipeline.executors.interface import Outcome
from poise_git.pipeline.executors.machine import Machine
from poise_git.pipeline.executors.stages import carry_out, claim_of
from poise_git.pipeline.interface import Backend, Cancelled, Demand, Job, OnProgress, Progress
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Sandbox


class LocalExecutor:
    """Run as many jobs at once as fit the machine's cores and devices, at most `cap`.

    Raises:
        UsageError: the machine cannot run a single job.
    """

    def __init__(
        self, backend: Backend, sandbox: Sandbox, demand: Demand, machine: Machine, cap: int | None = None
    ) -> None:
        self.backend = backend
        self.sandbox = sandbox
        claim = claim_of(demand)
        self.workers = machine.slots(claim, cap)
        self._devices: queue.SimpleQueue[tuple[int, ...]] = queue.SimpleQueue()
        for slot in range(self.workers):
            self._devices.put(machine.gpus[slot * claim.gpus : (slot + 1) * claim.gpus])

    def prepare(self, protocol: Protocol, on_progress: OnProgress) -> None:
        self.backend.prepare(protocol, self.sandbox, on_progress, self.workers)

    def run(self, jobs: Sequence[Job], on_progress: Callable[[Job, Progress], None]) -> Iterator[Outcome]:
        stop = {(job.candidate, job.seed): threading.Event() for job in jobs}
        with ThreadPoolExecutor(self.workers, thread_name_prefix="job") as pool:
            futures = {
                pool.submit(self._run_one, job, partial(on_progress, job), stop[job.candidate, job.seed]): job
                for job in jobs
            }
            failed: set[str] = set()
            try:
                for future in as_completed(futures):
                    job = futures[future]
                    if job.candidate in failed:
                        continue
                    try:
                        yield Outcome(job, future.result(), None)
                    except (Cancelled, CancelledError):
                        continue
                    except RunFailed as failure:
                        failed.add(job.candidate)
                        for other, dropped in futures.items():
                            if dropped.candidate == job.candidate:
                                other.cancel()
                                stop[dropped.candidate, dropped.seed].set()
                        yield Outcome(job, None, failure)
            finally:
                for future in futures:
                    future.cancel()
                for event in stop.values():
                    event.set()

    def _run_one(self, job: Job, on_progress: OnProgress, cancelled: threading.Event) -> Run:
        gpus = self._devices.get()
        try:
            return carry_out(self.backend, replace(job, gpus=gpus), self.sandbox, on_progress, cancelled)
        finally:
            self._devices.put(gpus)
