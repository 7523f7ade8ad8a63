"""The testbed as a backend: train in one sandboxed child, evaluate in another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from poise_git.archive.entries import Run
from poise_git.errors import RunFailed, SettingsError, UsageError
from poise_git.pipeline.backends.testbed import evaluation, trainer
from poise_git.pipeline.backends.testbed.base_policies import ensure_base_policies, ensure_base_policy
from poise_git.pipeline.backends.testbed.estimators import estimate
from poise_git.pipeline.backends.testbed.settings import TestbedSettings, parse_settings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.interface import Job, Progress
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import ChildFailed, Sandbox

OnProgress = Callable[[Progress], None]


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

    def run(self, job: Job, sandbox: Sandbox, on_progress: OnProgress, cancelled: threading.Event) -> Run:
        settings = parse_settings(job.protocol, job.protocol.name)
        base = self._base_policy(settings, job, sandbox, on_progress)
        recipe = job.scratch / trainer.RECIPE_FOLDER
        recipe.mkdir(parents=True, exist_ok=True)
        for name, text in job.recipe.items():
            (recipe / Path(name).name).write_text(text, encoding="utf-8")
        common = {"settings": settings.model_dump(mode="json"), "seed": job.seed}

        def run_child(
            stage: str, entry: str, arguments: Mapping[str, Any], total: int, readable: Sequence[Path] = ()
        ) -> tuple[dict[str, Any], float]:
            def on_message(message: Mapping[str, Any]) -> None:
                values = {name: float(value) for name, value in message.items() if name != "done"}
                on_progress(Progress(stage, int(message["done"]), total, values))

            try:
                completed = sandbox.run(
                    entry,
                    {**common, **arguments},
                    job.scratch,
                    readable=readable,
                    on_message=on_message,
                    cancelled=cancelled,
                )
            except ChildFailed as error:
                raise RunFailed(stage, error.reason) from error
            if "failure" in completed.value:
                raise RunFailed(stage, completed.value["failure"])
            return completed.value, completed.cpu_seconds

        trained, train_seconds = run_child(
            "train", f"{trainer.__name__}:train", {"base": str(base)}, settings.training.steps, readable=(base,)
        )
        suites = list(job.protocol.suites)
        evaluated, evaluation_seconds = run_child(
            "evaluate",
            f"{evaluation.__name__}:evaluate",
            {"suites": suites},
            len(settings.evaluation_steps()),
        )
        return _run_of(job, trained["series"], evaluated["points"], train_seconds + evaluation_seconds)

    def _base_policy(self, settings: TestbedSettings, job: Job, sandbox: Sandbox, on_progress: OnProgress) -> Path:
        def on_steps(done: int, loss: float) -> None:
            on_progress(Progress("warm start", done, settings.warm_start.total_steps, {"loss": loss}))

        return ensure_base_policy(settings, settings.world(job.seed), sandbox, on_steps)


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
