"""Training runs of the calibration set, kept in a file of JSON lines, one run each."""

from __future__ import annotations

import copy
import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from calibration import recipe_of

from poise_git.archive.entries import Run
from poise_git.errors import RunFailed, UsageError
from poise_git.pipeline.backends.testbed import Testbed
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.boundary.hosting import Containment
from poise_git.pipeline.executors.stages import carry_out
from poise_git.pipeline.interface import Job, OnProgress, Trained
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Sandbox

# The algorithms of the calibration set are this project's own.
OWN = Containment(may_lack_layers=True)


@dataclass(frozen=True)
class Record:
    """One run of one algorithm under the protocol of this hash.

    Attributes:
        learning_rate_factor: factor of the learning rates in the protocol's file; part of the hash.
        values: regime -> the figure of the protocol's estimator.
        details: regime -> name -> final figure.
        series: "regime/name" -> mean over training.
        curve: figures of each evaluation point, as in `Run`.
        training_seconds, evaluation_seconds: CPU time of the two child processes.
        failure: the reason why there are no figures; None if there are.
    """

    algorithm: str
    seed: int
    protocol: str
    learning_rate_factor: float
    values: dict[str, float] = field(default_factory=dict)
    details: dict[str, dict[str, float]] = field(default_factory=dict)
    series: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    failure: str | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        return self.algorithm, self.seed, self.protocol


def variant(protocol: Protocol, regimes: Sequence[str], learning_rate_factor: float, device: str | None) -> Protocol:
    """The protocol with only these regimes (none named: all), learning rates multiplied, on `device` (None: its own).

    Raises:
        UsageError: the protocol has no such regime.
    """
    settings = copy.deepcopy(protocol.settings)
    for name in regimes:
        if name not in settings["regimes"]:
            raise UsageError(f"no regime {name}; the protocol has {', '.join(settings['regimes'])}")
    kept = [name for name in settings["regimes"] if name in regimes or not regimes]
    settings["regimes"] = {name: settings["regimes"][name] for name in kept}
    if device is not None:
        settings["device"] = device
    suites = {name: weight for name, weight in protocol.suites.items() if name in kept}
    reduced = protocol.model_copy(update={"settings": settings, "suites": suites})
    return reduced if learning_rate_factor == 1.0 else Testbed().at_learning_rate(reduced, learning_rate_factor)


def read_records(file: Path) -> list[Record]:
    """Every run in the file, none if there is no file. A last line that was cut off is no run."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")
    return [Record(**json.loads(line)) for line in lines[:-1] if line]


@dataclass(frozen=True)
class Trainer:
    """Trains the runs that a file of records does not have yet."""

    protocol: Protocol
    learning_rate_factor: float
    sandbox: Sandbox
    file: Path

    def train(
        self, jobs: Iterable[tuple[str, int]], workers: int, on_record: Callable[[Record, int, int], None]
    ) -> None:
        """Run the jobs (algorithm, seed) in their order, `workers` at once. Each record is on disk before `on_record`
        gets it, with the number of finished jobs and of all jobs.
        """
        recorded = {record.key for record in read_records(self.file)}
        wanted = [job for job in jobs if (*job, self.protocol.hash) not in recorded]
        cancelled, writing, done = threading.Event(), threading.Lock(), 0
        _drop_half_a_line(self.file)

        def run(job: tuple[str, int]) -> None:
            nonlocal done
            record = self._run(*job, cancelled)
            with writing, self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(asdict(record)) + "\n")
                out.flush()
                done += 1
                on_record(record, done, len(wanted))

        with ThreadPoolExecutor(max_workers=workers) as pool:
            futures = [pool.submit(run, job) for job in wanted]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                cancelled.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _run(self, algorithm: str, seed: int, cancelled: threading.Event) -> Record:
        record = Record(algorithm, seed, self.protocol.hash, self.learning_rate_factor)
        backend = _TimedBackend()
        with tempfile.TemporaryDirectory() as scratch:
            job = Job(algorithm, recipe_of(algorithm), self.protocol, seed, Path(scratch), containment=OWN)
            try:
                run = carry_out(backend, job, self.sandbox, lambda progress: None, cancelled)
            except RunFailed as error:
                return replace(record, training_seconds=backend.training_seconds, failure=str(error))
        return replace(record, **_figures(run, backend.training_seconds))


class _TimedBackend(TestbedBackend):
    """Of one job: a run states only the sum of its stages' seconds."""

    training_seconds = 0.0

    def train(self, job: Job, sandbox: Sandbox, on_progress: OnProgress, cancelled: threading.Event) -> Trained:
        trained = super().train(job, sandbox, on_progress, cancelled)
        self.training_seconds = trained.cpu_seconds
        return trained


def _figures(run: Run, training_seconds: float) -> dict[str, Any]:
    return {
        "values": dict(run.values),
        "details": {regime: dict(figures) for regime, figures in run.details.items()},
        "series": {name: sum(values) / len(values) for name, values in run.series.items()},
        "curve": [dict(point) for point in run.curve],
        "training_seconds": training_seconds,
        "evaluation_seconds": run.cpu_seconds - training_seconds,
    }


def _drop_half_a_line(file: Path) -> None:
    """Cut off an incomplete last line, which would spoil the next record."""
    if file.exists():
        whole = file.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            with file.open("r+b") as handle:
                handle.truncate(end)
