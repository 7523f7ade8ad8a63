"""The driver's side: send orders to the board, and pass its news on."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import OutOfMemoryError, RayActorError

from poise_git.errors import PoiseError, RunFailed
from poise_git.pipeline.executors.interface import Outcome
from poise_git.pipeline.executors.ray.board import Board
from poise_git.pipeline.executors.ray.cluster import NAMESPACE, Cluster
from poise_git.pipeline.executors.ray.orders import Broken, Ended, Failed, News, Order, in_one_line
from poise_git.pipeline.executors.ray.suspicion import Suspicion, is_out_of_memory
from poise_git.pipeline.executors.stages import claim_of
from poise_git.pipeline.interface import Backend, Demand, Job, OnProgress, Progress, Trained
from poise_git.pipeline.protocol import Protocol
from poise_git.settings import PoiseSettings

# Seconds that the board waits for news before it reports none.
_PATIENCE = 1.0
# Seconds before a lost board is replaced, so that its cause, such as a shortage of memory, has time to pass.
_PAUSE = 5.0
BOARD_LOST = (RayActorError, OutOfMemoryError)


def board_name(archive: Path) -> str:
    """The board's name: the same for every driver of this archive, and different for other archives."""
    place = f"{platform.node()}:{archive.resolve()}"
    return f"board-{hashlib.sha256(place.encode()).hexdigest()[:16]}"


class RayExecutor:
    """Run jobs through a board, which a killed driver may have left behind.

    Raises:
        UsageError: no machine of the cluster could hold a run.
    """

    def __init__(self, cluster: Cluster, backend: Backend, demand: Demand, settings: PoiseSettings, board: str) -> None:
        cluster.require(claim_of(demand))
        self._backend, self._demand, self._settings = backend, demand, settings
        self._name = board
        # The board is looked up at the first run, because until then the archive may be locked by the driver that owns
        # the board.
        self._board: Any = None
        self._suspicion = Suspicion()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            ray.kill(self._board)

    def prepare(self, protocol: Protocol, on_progress: OnProgress) -> None:
        """Do nothing, because every worker prepares its machine once before it trains."""

    def run(self, jobs: Sequence[Job], on_progress: Callable[[Job, Progress], None]) -> Iterator[Outcome]:
        wanted: dict[str, list[Job]] = {}
        for job in jobs:
            wanted.setdefault(job.key, []).append(job)
        failed: set[str] = set()
        try:
            while wanted:
                for key, ended in self._hear(wanted, on_progress).items():
                    # The failure just yielded may have dropped this job.
                    for job in wanted.pop(key, ()):
                        if job.candidate in failed:
                            continue
                        outcome = self._outcome(job, ended)
                        if outcome.failure:
                            failed.add(job.candidate)
                            self._drop(wanted, failed)
                        yield outcome
                    # When the caller asks for the next outcome, it has archived the earlier ones.
                    self._tell("forget", [key])
        finally:
            self._tell("cancel", list(wanted))

    def _hear(self, wanted: dict[str, list[Job]], on_progress: Callable[[Job, Progress], None]) -> Mapping[str, Ended]:
        """Return the outcomes since the last call; pass progress on, and replace a lost board."""
        lost = 0
        while True:
            keys = self._suspicion.admitted(wanted)
            try:
                ended = self._ask({key: wanted[key] for key in keys}, on_progress)
            except BOARD_LOST as error:
                self._board = None
                if is_out_of_memory(error):
                    if culprit := self._suspicion.record(keys):
                        failure = Failed.out_of_memory(self._suspicion.stage_of(culprit), in_one_line(error))
                        ended = {culprit: failure}
                        break
                else:
                    lost += 1
                if lost == self._settings.executor.attempts:
                    raise PoiseError(
                        "the cluster lost the board of this search several times; see `ray status`"
                    ) from error
            else:
                break
            time.sleep(_PAUSE)
        self._suspicion.clear(ended)
        return ended

    def _ask(
        self, wanted: Mapping[str, list[Job]], on_progress: Callable[[Job, Progress], None]
    ) -> Mapping[str, Ended]:
        """Wait for outcomes from the board; start orders that it does not have."""
        self._board = self._board or self._find_board()
        ray.get(self._board.start.remote([self._order(jobs[0]) for jobs in wanted.values()]))
        while True:
            news: News = ray.get(self._board.news.remote(list(wanted), _PATIENCE))
            for key, progress in news.progress:
                self._suspicion.hear(key, progress)
                for job in wanted[key]:
                    on_progress(job, progress)
            if news.ended:
                return news.ended

    def _drop(self, wanted: dict[str, list[Job]], failed: Collection[str]) -> None:
        """Stop orders that only failed candidates wanted."""
        dropped = [key for key, jobs in wanted.items() if all(job.candidate in failed for job in jobs)]
        for key in dropped:
            del wanted[key]
        self._tell("cancel", dropped)

    def _outcome(self, job: Job, ended: Ended) -> Outcome:
        if isinstance(ended, Broken):
            raise PoiseError(ended.reason)
        if isinstance(ended, Failed):
            return Outcome(job, None, RunFailed(ended.stage, ended.reason))
        figures = ended.figures
        trained = Trained(figures.series, job.scratch / figures.weights, figures.cpu_seconds, figures.isolation)
        return Outcome(job, self._backend.assemble(job, trained, ended.evaluated), None)

    def _order(self, job: Job) -> Order:
        shared = self._settings.executor.shared
        return Order.of(
            job,
            self._demand,
            self._backend.shards(job.protocol),
            self._settings.sandbox,
            shared / self._name if shared else None,
        )

    def _tell(self, what: str, keys: Sequence[str]) -> None:
        """Call the board. If it is gone, its tasks are gone too, so the call is not needed."""
        if keys and self._board is not None:
            with suppress(*BOARD_LOST):
                ray.get(getattr(self._board, what).remote(list(keys)))

    def _find_board(self) -> Any:
        """The board of an earlier driver, or a new one."""
        return (
            ray.remote(Board)
            .options(
                name=self._name,
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_concurrency=1000,
            )
            .remote(self._settings.executor.attempts, self._settings.workers)
        )
