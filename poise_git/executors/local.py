"""Jobs on this machine: a thread for each running job, which waits for the job's child processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from functools import partial

from poise_git.errors import RunFailed
from poise_git.executors.interface import Outcome
from poise_git.pipeline.interface import Backend, Cancelled, Job, Progress
from poise_git.pipeline.sandbox import Sandbox


def available_cores() -> int:
    return len(os.sched_getaffinity(0))


class LocalExecutor:
    def __init__(self, backend: Backend, sandbox: Sandbox, workers: int) -> None:
        self.backend = backend
        self.sandbox = sandbox
        self.workers = workers

    def run(self, jobs: Sequence[Job], on_progress: Callable[[Job, Progress], None]) -> Iterator[Outcome]:
        stop = {(job.candidate, job.seed): threading.Event() for job in jobs}
        with ThreadPoolExecutor(self.workers, thread_name_prefix="job") as pool:
            futures = {
                pool.submit(
                    self.backend.run,
                    job,
                    self.sandbox,
                    partial(on_progress, job),
                    stop[job.candidate, job.seed],
                ): job
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
