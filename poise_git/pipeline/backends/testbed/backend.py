"""The testbed as a backend: train in one sandboxed child, evaluate in another."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise_git.archive.entries import Run
from poise_git.errors import RunFailed, SettingsError, UsageError
from poise_git.pipeline.backends.testbed import evaluation, trainer
from poise_git.pipeline.backends.testbed.base_policies import ensure_base_policies, ensure_base_policy
from poise_git.pipeline.backends.testbed.estimators import estimate
from poise_git.pipeline.backends.testbed.settings import TestbedSettings, parse_settings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.interface import Demand, Evaluated, Job, OnProgress, Progress, Resources, Trained
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import ChildFailed, Sandbox

TRAINING_FOLDER = "training"
WEIGHTS_FOLDER = "weights"
# Its evaluation takes a second or two: it is not divided.
WHOLE = "all"


class TestbedBackend:
    """See `poise_git.pipeline.interface.Backend`."""

    __test__ = False

    def validate(self, protocol: Protocol, file: str) -> None:
        settings = parse_settings(protocol, file)
        try:
            task = build_task(settings, settings.task.worlds[0])
        except UsageError as error:
            raise SettingsError(file, 0, "settings.task", str(error)) from error
        for suite in protocol.suites:
            if suite not in task.suites:
                raise SettingsError(file, 0, "suites", f"unknown: {suite}; known: {', '.join(task.suites)}")

    def prepare(self, protocol: Protocol, sandbox: Sandbox, on_progress: OnProgress, workers: int) -> None:
        settings = parse_settings(protocol, protocol.name)
        total = settings.warm_start.total_steps * len(settings.task.worlds)
        done = dict.fromkeys(settings.task.worlds, 0)

        def on_steps(world: int, steps: int, loss: float) -> None:
            done[world] = steps
            on_progress(Progress("warm start", sum(done.values()), total, {"loss": loss}))

        ensure_base_policies(settings, sandbox, on_steps, workers)

    def demand(self, protocol: Protocol) -> Demand:
        """Runs are single-threaded."""
        return Demand(training=Resources(cpus=1.0), evaluation=Resources(cpus=1.0))

    def train(self, job: Job, sandbox: Sandbox, on_progress: OnProgress, cancelled: threading.Event) -> Trained:
        settings = parse_settings(job.protocol, job.protocol.name)
        base = self._base_policy(settings, job, sandbox, on_progress)
        # Beside the weights, so that a candidate cannot have prepared the place they are moved to.
        folder, weights = job.scratch / TRAINING_FOLDER, job.scratch / WEIGHTS_FOLDER
        recipe = folder / trainer.RECIPE_FOLDER
        for left_by_another_attempt in (folder, weights):
            shutil.rmtree(left_by_another_attempt, ignore_errors=True)
        weights.mkdir()
        recipe.mkdir(parents=True, exist_ok=True)
        for name, text in job.recipe.items():
            (recipe / Path(name).name).write_text(text, encoding="utf-8")
        child = _Child("train", settings.training.steps, job, sandbox, on_progress, cancelled)
        value, cpu_seconds = child.run(f"{trainer.__name__}:train", {"base": str(base)}, folder, readable=(base,))
        for step in settings.evaluation_steps():
            # The evaluator says which one is missing.
            with suppress(FileNotFoundError):
                (folder / trainer.weights_file(step)).replace(weights / trainer.weights_file(step))
        series = {name: tuple(values) for name, values in value["series"].items()}
        return Trained(series, weights, cpu_seconds)

    def shards(self, protocol: Protocol) -> tuple[str, ...]:
        return (WHOLE,)

    def evaluate(
        self,
        job: Job,
        trained: Trained,
        shard: str,
        sandbox: Sandbox,
        on_progress: OnProgress,
        cancelled: threading.Event,
    ) -> Evaluated:
        settings = parse_settings(job.protocol, job.protocol.name)
        child = _Child("evaluate", len(settings.evaluation_steps()), job, sandbox, on_progress, cancelled)
        value, cpu_seconds = child.run(
            f"{evaluation.__name__}:evaluate", {"suites": list(job.protocol.suites)}, trained.weights
        )
        return Evaluated(shard, {"points": value["points"]}, cpu_seconds)

    def assemble(self, job: Job, trained: Trained, evaluated: Sequence[Evaluated]) -> Run:
        (whole,) = evaluated
        return _run_of(job, trained.series, whole.data["points"], trained.cpu_seconds + whole.cpu_seconds)

    def _base_policy(self, settings: TestbedSettings, job: Job, sandbox: Sandbox, on_progress: OnProgress) -> Path:
        def on_steps(done: int, loss: float) -> None:
            on_progress(Progress("warm start", done, settings.warm_start.total_steps, {"loss": loss}))

        return ensure_base_policy(settings, settings.world(job.seed), sandbox, on_steps)


@dataclass(frozen=True)
class _Child:
    """One stage of a job in a child process."""

    stage: str
    total: int
    job: Job
    sandbox: Sandbox
    on_progress: OnProgress
    cancelled: threading.Event

    def run(
        self, entry: str, arguments: Mapping[str, Any], folder: Path, readable: Sequence[Path] = ()
    ) -> tuple[dict[str, Any], float]:
        """What the entry point returned, and the seconds it took; raises RunFailed."""
        settings = parse_settings(self.job.protocol, self.job.protocol.name)
        common = {"settings": settings.model_dump(mode="json"), "seed": self.job.seed}
        try:
            completed = self.sandbox.run(
                entry,
                {**common, **arguments},
                folder,
                readable=readable,
                on_message=self._report,
                cancelled=self.cancelled,
            )
        except ChildFailed as error:
            raise RunFailed(self.stage, error.reason) from error
        if "failure" in completed.value:
            raise RunFailed(self.stage, completed.value["failure"])
        return completed.value, completed.cpu_seconds

    def _report(self, message: Mapping[str, Any]) -> None:
        values = {name: float(value) for name, value in message.items() if name != "done"}
        self.on_progress(Progress(self.stage, int(message["done"]), self.total, values))


def _run_of(
    job: Job, series: Mapping[str, Sequence[float]], points: Sequence[Mapping[str, Any]], cpu_seconds: float
) -> Run:
    weights = job.protocol.suite_weights
    curve = []
    for point in points:
        values = {suite: float(point["suites"][suite]["value"]) for suite in weights}
        overall = sum(weights[suite] * value for suite, value in values.items())
        curve.append({"step": point["step"], "overall": overall, **values})
    final = points[-1]["suites"]
    return Run(
        protocol=job.protocol.hash,
        seed=job.seed,
        values={suite: estimate(job.protocol.estimator, [point[suite] for point in curve]) for suite in weights},
        details={
            suite: {name: value for name, value in final[suite].items() if name not in ("value", "sampled")}
            for suite in weights
        },
        series={name: tuple(values) for name, values in series.items()},
        curve=tuple(curve),
        cpu_seconds=cpu_seconds,
    )
