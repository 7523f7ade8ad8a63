"""The boundary between the loop and the executor of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from poise_git.archive.entries import Run
from poise_git.errors import RunFailed
from poise_git.pipeline.interface import Job, OnProgress, Progress
from poise_git.pipeline.protocol import Protocol


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: a run, or the candidate's failure."""

    job: Job
    run: Run | None
    failure: RunFailed | None


class Executor(Interface):
    def prepare(self, protocol: Protocol, on_progress: OnProgress) -> None:
        """Make the data that all runs of the protocol share, on every machine that needs it; see `Backend.prepare`."""
        ...

    def run(self, jobs: Sequence[Job], on_progress: Callable[[Job, Progress], None]) -> Iterator[Outcome]:
        """Run all jobs, several at once, and yield each as it ends, in any order.

        Contract: a candidate's first failure is yielded, and its other jobs are dropped. Closing the iterator stops the
        jobs that still run. `on_progress` is called from other threads.
        """
        ...
