"""The testbed as a backend: train in one sandboxed child, evaluate in another."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poise_git.archive.entries import Isolation, Run
from poise_git.errors import CheckFailed, RunFailed, SettingsError, UsageError
from poise_git.pipeline.backends.testbed import evaluation, trainer
from poise_git.pipeline.backends.testbed.base_policies import base_policies, ensure_base_policies, ensure_base_policy
from poise_git.pipeline.backends.testbed.estimators import estimate
from poise_git.pipeline.backends.testbed.replies import EvaluationReply, TrainingReply
from poise_git.pipeline.backends.testbed.settings import RegimeSettings, TestbedSettings, field_in_file, parse_settings
from poise_git.pipeline.backends.testbed.task import Split
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.boundary.hosting import contain
from poise_git.pipeline.equipment import gpu_devices
from poise_git.pipeline.interface import Demand, Evaluated, Job, OnProgress, Progress, Resources, Trained
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.replies import Failure, Reply, StepReply, parse
from poise_git.pipeline.sandbox import Allowance, ChildFailed, Sandbox
from poise_git.pipeline.sandbox.removal import FileRefused, fresh_folder, remove_tree, take_file

# Every attempt has a folder of its own, so that no attempt writes into the files of another.
ATTEMPT = "attempt-"
WEIGHTS_FOLDER = "weights"
# The evaluation takes a second or two, so it is not divided.
WHOLE = "all"


class TestbedBackend:
    """See `poise_git.pipeline.interface.Backend`."""

    __test__ = False

    def validate(self, protocol: Protocol, file: str) -> None:
        for name, regime in parse_settings(protocol, file).regimes.items():
            try:
                task = build_task(regime, regime.task.worlds[0])
            except UsageError as error:
                field = field_in_file(protocol, ("regimes", name, "task"))
                raise SettingsError(file, 0, field, str(error)) from error
            for suite in regime.evaluation.suites:
                if suite not in task.suites:
                    field = field_in_file(protocol, ("regimes", name, "evaluation", "suites"))
                    raise SettingsError(file, 0, field, f"unknown: {suite}; known: {', '.join(task.suites)}")

    def prepare(self, protocol: Protocol, sandbox: Sandbox, on_progress: OnProgress, workers: int) -> None:
        settings = parse_settings(protocol, protocol.name)
        wanted = base_policies(settings)
        total = sum(settings.regimes[name].warm_start.all_steps for name, _ in wanted.values())
        done = dict.fromkeys(wanted, 0)

        def on_steps(file: Path, steps: int, loss: float) -> None:
            done[file] = steps
            on_progress(Progress("warm start", sum(done.values()), total, {"loss": loss}))

        ensure_base_policies(settings, sandbox, on_steps, workers)

    def demand(self, protocol: Protocol) -> Demand:
        """Runs are single-threaded."""
        gpus = 1 if parse_settings(protocol, protocol.name).device == "cuda" else 0
        return Demand(training=Resources(cpus=1.0, gpus=gpus), evaluation=Resources(cpus=1.0, gpus=gpus))

    def train(self, job: Job, sandbox: Sandbox, on_progress: OnProgress, cancelled: threading.Event) -> Trained:
        settings = parse_settings(job.protocol, job.protocol.name)
        bases = {
            name: self._base_policy(regime, job.seed, sandbox, on_progress) for name, regime in settings.regimes.items()
        }
        weights = job.scratch / WEIGHTS_FOLDER
        for left_by_another_attempt in (*job.scratch.glob(f"{ATTEMPT}*"), weights):
            remove_tree(left_by_another_attempt)
        weights.mkdir()
        with fresh_folder(job.scratch, ATTEMPT) as folder:
            return self._train(job, settings, bases, folder, weights, sandbox, on_progress, cancelled)

    def _train(
        self,
        job: Job,
        settings: TestbedSettings,
        bases: Mapping[str, Path],
        folder: Path,
        weights: Path,
        sandbox: Sandbox,
        on_progress: OnProgress,
        cancelled: threading.Event,
    ) -> Trained:
        """Make one attempt in the fresh folder `folder`, and move its results to `weights`."""
        steps = sum(regime.training.steps for regime in settings.regimes.values())
        child = _Child("train", steps, job, sandbox, on_progress, cancelled)
        arguments = {"bases": {name: str(base) for name, base in bases.items()}}
        reply, cpu_seconds, isolation = child.run_with_candidate(
            f"{trainer.__name__}:train", arguments, folder, tuple(bases.values()), TrainingReply
        )
        reply.require_whole(
            {
                f"{name}/{series}": own.training.steps
                for name, own in settings.regimes.items()
                for series in trainer.SERIES
            }
        )
        for name, regime in settings.regimes.items():
            for step in regime.evaluation_steps():
                file = trainer.weights_file(name, step)
                try:
                    take_file(folder, file, weights / file, sandbox.limits.file_mb)
                except FileRefused as error:
                    raise RunFailed("train", error.reason) from error
        return Trained(reply.series, weights, cpu_seconds, isolation)

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
        points = {name: len(regime.evaluation_steps()) for name, regime in settings.regimes.items()}
        confirms = job.seed in job.protocol.confirmation_seeds
        split = Split.CONFIRMATION if confirms else Split.SELECTION
        child = _Child("evaluate", sum(points.values()), job, sandbox, on_progress, cancelled)
        entry = f"{evaluation.__name__}:{evaluation.evaluate.__name__}"
        reply, cpu_seconds = child.run(entry, {"split": split.value}, trained.weights, (), EvaluationReply)
        reply.require_whole(points)
        return Evaluated(shard, {"points": reply.to_data()}, cpu_seconds)

    def assemble(self, job: Job, trained: Trained, evaluated: Sequence[Evaluated]) -> Run:
        (whole,) = evaluated
        return _run_of(job, trained, whole)

    def _base_policy(self, regime: RegimeSettings, seed: int, sandbox: Sandbox, on_progress: OnProgress) -> Path:
        def on_steps(done: int, loss: float) -> None:
            on_progress(Progress("warm start", done, regime.warm_start.all_steps, {"loss": loss}))

        return ensure_base_policy(regime, regime.world(seed), sandbox, on_steps)


@dataclass(frozen=True)
class _Child:
    """One stage of a job in a child process."""

    stage: str
    total: int
    job: Job
    sandbox: Sandbox
    on_progress: OnProgress
    cancelled: threading.Event

    def run_with_candidate(
        self,
        entry: str,
        arguments: Mapping[str, Any],
        folder: Path,
        readable: Sequence[Path],
        expected: type[Reply],
    ) -> tuple[Reply, float, Isolation]:
        """Call `run` for an entry point that opens the candidate; return reply, seconds of both, and isolation."""
        try:
            with contain(self.sandbox, self.job.recipe, self.job.containment) as candidate:
                reply, cpu_seconds = self.run(
                    entry, {**arguments, **candidate.arguments}, folder, readable, expected, candidate.handed
                )
        except (ChildFailed, CheckFailed) as error:
            raise RunFailed(self.stage, error.reason) from error
        except RunFailed as failure:
            # The reason why the candidate's processes ended is more useful than the fact that they are gone.
            raise RunFailed(self.stage, candidate.failure or failure.reason) from failure
        return reply, cpu_seconds + candidate.cpu_seconds, candidate.isolation

    def run(
        self,
        entry: str,
        arguments: Mapping[str, Any],
        folder: Path,
        readable: Sequence[Path],
        expected: type[Reply],
        handed: Sequence[int] = (),
    ) -> tuple[Reply, float]:
        """Return the entry point's reply and the seconds that it took. Raises RunFailed."""
        settings = parse_settings(self.job.protocol, self.job.protocol.name)
        cuda = settings.device == "cuda"
        common = {
            "settings": settings.model_dump(mode="json"),
            "seed": self.job.seed,
            "device": f"cuda:{next(iter(self.job.gpus), 0)}" if cuda else "cpu",
        }
        try:
            completed = self.sandbox.run(
                entry,
                {**common, **arguments},
                folder,
                allowance=Allowance(
                    readable=(*readable, Path("/sys")) if cuda else tuple(readable),
                    devices=gpu_devices() if cuda else (),
                ),
                # CUDA reserves more address space than the memory that a run may use.
                limits=replace(self.sandbox.limits, memory_mb=None) if cuda else None,
                handed=handed,
                on_message=self._report,
                cancelled=self.cancelled,
            )
        except (ChildFailed, CheckFailed) as error:
            raise RunFailed(self.stage, error.reason) from error
        reply = parse(completed.value, expected, self.stage)
        if isinstance(reply, Failure):
            raise RunFailed(self.stage, reply.reason)
        return reply, completed.cpu_seconds

    def _report(self, message: Mapping[str, Any]) -> None:
        step = parse(message, StepReply, self.stage)
        if not isinstance(step, Failure):
            self.on_progress(Progress(self.stage, step.done, self.total, step.values))


def _run_of(job: Job, trained: Trained, evaluated: Evaluated) -> Run:
    weights, points = job.protocol.suite_weights, evaluated.data["points"]
    curve = []
    for number, figures in enumerate(zip(*(points[regime] for regime in weights), strict=True)):
        values = {regime: float(own["value"]) for regime, own in zip(weights, figures, strict=True)}
        overall = sum(weights[regime] * value for regime, value in values.items())
        curve.append({"point": number, "overall": overall, **values})
    return Run(
        protocol=job.protocol.hash,
        seed=job.seed,
        values={regime: estimate(job.protocol.estimator, [point[regime] for point in curve]) for regime in weights},
        details={
            regime: {
                **{name: value for name, value in points[regime][-1].items() if name != "value"},
                "early": curve[1][regime],
                "final": curve[-1][regime],
            }
            for regime in weights
        },
        series=trained.series,
        curve=tuple(curve),
        cpu_seconds=trained.cpu_seconds + evaluated.cpu_seconds,
        isolation=trained.isolation,
    )
