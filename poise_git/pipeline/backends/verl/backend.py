"""verl as a backend: train in one sandbox, evaluate in others, keep what an interrupted run has until it is done.

A run's workspace lies in the cache, under the job's key: verl's checkpoints, so that training goes on where it was
stopped, and then the trained weights, so that a lost evaluation does not train again.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poise_git.archive.entries import Run
from poise_git.errors import RunFailed
from poise_git.pipeline.backends.verl import evaluation, training
from poise_git.pipeline.backends.verl.configuration import checkpoint_folder
from poise_git.pipeline.backends.verl.preparation import Prepared, assemble_weights, prepare, suite_problems
from poise_git.pipeline.backends.verl.settings import VerlSettings, parse_settings
from poise_git.pipeline.backends.verl.versions import check_versions
from poise_git.pipeline.cache import cache_folder, locked
from poise_git.pipeline.interface import Demand, Evaluated, Job, OnProgress, Progress, Resources, Trained
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Allowance, ChildFailed, Completed, Limits, Sandbox

_OPEN_FILES = 65536
# The child ends itself at its limits, with a reason; this is for one that does not.
_GRACE_SECONDS = 300
_DEVICES = "nvidia*"
# Of `SuiteScores`, what is compared between candidates.
_DETAILS = ("valid_rate", "cut_off_rate", "timed_out", "mean_words")


class VerlBackend:
    """See `poise_git.pipeline.interface.Backend`."""

    def validate(self, protocol: Protocol, file: str) -> None:
        settings = parse_settings(protocol, file)
        check_versions(settings.hardware.device)

    def prepare(self, protocol: Protocol, sandbox: Sandbox, on_progress: OnProgress, workers: int) -> None:
        on_progress(Progress("model and data", 0, 1))
        prepare(_settings(protocol), sandbox)
        on_progress(Progress("model and data", 1, 1))

    def demand(self, protocol: Protocol) -> Demand:
        hardware = _settings(protocol).hardware
        shard_share = max(1, hardware.gpus // max(1, hardware.evaluation_gpus))
        return Demand(
            training=Resources(hardware.cpus, hardware.gpus),
            evaluation=Resources(max(1, hardware.cpus // shard_share), hardware.evaluation_gpus),
        )

    def train(self, job: Job, sandbox: Sandbox, on_progress: OnProgress, cancelled: threading.Event) -> Trained:
        settings = _settings(job.protocol)
        prepared = prepare(settings, sandbox)
        workspace = _workspace(job)
        with locked(workspace.with_suffix(".lock")):
            finished = workspace / "trained.json"
            if not finished.exists():
                completed = self._train(job, settings, prepared, workspace, sandbox, on_progress, cancelled)
                steps = checkpoint_folder(workspace / "child" / training.CHECKPOINTS, settings.steps)
                assemble_weights(prepared.model, steps, workspace / "weights")
                result = {"series": completed.value["series"], "cpu_seconds": completed.cpu_seconds}
                _write_whole(finished, json.dumps(result))
                shutil.rmtree(workspace / "child", ignore_errors=True)
        result = json.loads(finished.read_text(encoding="utf-8"))
        series = {name: tuple(values) for name, values in result["series"].items()}
        return Trained(series, workspace / "weights", float(result["cpu_seconds"]))

    def shards(self, protocol: Protocol) -> tuple[str, ...]:
        return tuple(_settings(protocol).evaluation.suites_by_shard())

    def evaluate(
        self,
        job: Job,
        trained: Trained,
        shard: str,
        sandbox: Sandbox,
        on_progress: OnProgress,
        cancelled: threading.Event,
    ) -> Evaluated:
        settings = _settings(job.protocol)
        problems = {suite: suite_problems(settings, suite) for suite in settings.evaluation.suites_by_shard()[shard]}
        scratch = job.scratch / f"evaluate-{shard}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        arguments = {
            "weights": str(trained.weights.absolute()),
            "problems": {suite: [asdict(problem) for problem in listed] for suite, listed in problems.items()},
        }
        child = _Child(
            "evaluate", sum(map(len, problems.values())), settings.limits.evaluation_hours, job, settings, sandbox,
            on_progress, cancelled,
        )  # fmt: skip
        completed = child.run(f"{evaluation.__name__}:evaluate", arguments, scratch, (trained.weights,))
        return Evaluated(shard, {"suites": completed.value["suites"]}, completed.cpu_seconds)

    def assemble(self, job: Job, trained: Trained, evaluated: Sequence[Evaluated]) -> Run:
        suites: dict[str, Mapping[str, Any]] = {}
        for shard in evaluated:
            suites |= shard.data["suites"]
        weights = job.protocol.suite_weights
        values = {suite: float(suites[suite]["value"]) for suite in weights}
        overall = sum(weight * values[suite] for suite, weight in weights.items())
        shutil.rmtree(_workspace(job), ignore_errors=True)
        return Run(
            protocol=job.protocol.hash,
            seed=job.seed,
            values=values,
            details={suite: _details(suites[suite]) for suite in weights},
            series=trained.series,
            # With every problem's right answers, so that runs can be compared problem by problem.
            curve=({"step": _settings(job.protocol).steps, "overall": overall, **values, **_correct(suites)},),
            cpu_seconds=trained.cpu_seconds + sum(shard.cpu_seconds for shard in evaluated),
        )

    def _train(
        self,
        job: Job,
        settings: VerlSettings,
        prepared: Prepared,
        workspace: Path,
        sandbox: Sandbox,
        on_progress: OnProgress,
        cancelled: threading.Event,
    ) -> Completed:
        recipe, scratch = workspace / "recipe", workspace / "child"
        for folder in (recipe, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        for name, text in job.recipe.items():
            if name.endswith(".py"):
                (recipe / Path(name).name).write_text(text, encoding="utf-8")
        child = _Child("train", settings.steps, settings.limits.hours, job, settings, sandbox, on_progress, cancelled)
        arguments = {
            "recipe": str(recipe),
            "model": str(prepared.model),
            "training_data": str(prepared.training_data),
        }
        try:
            return child.run(
                f"{training.__name__}:train", arguments, scratch, (recipe, prepared.model, prepared.training_data)
            )
        except RunFailed:
            # What failed is not gone on with: the next try starts afresh.
            shutil.rmtree(workspace, ignore_errors=True)
            raise


class _Child:
    """One stage of a job in a sandbox."""

    def __init__(
        self,
        stage: str,
        total: int,
        hours: float,
        job: Job,
        settings: VerlSettings,
        sandbox: Sandbox,
        on_progress: OnProgress,
        cancelled: threading.Event,
    ) -> None:
        self._stage, self._total, self._hours = stage, total, hours
        self._job, self._settings, self._sandbox = job, settings, sandbox
        self._on_progress, self._cancelled = on_progress, cancelled

    def run(self, entry: str, arguments: Mapping[str, Any], folder: Path, readable: Sequence[Path]) -> Completed:
        """Raises RunFailed, Cancelled."""
        cuda = self._settings.hardware.device == "cuda"
        try:
            completed = self._sandbox.run(
                entry,
                {
                    "settings": self._settings.model_dump(mode="json"),
                    "seed": self._job.seed,
                    "gpus": list(self._job.gpus),
                    **arguments,
                },
                folder,
                allowance=Allowance(
                    readable=(*readable, *((Path("/sys"),) if cuda else ())),
                    devices=tuple(sorted(Path("/dev").glob(_DEVICES))) if cuda else (),
                    services=True,
                ),
                limits=Limits(wall_seconds=int(self._hours * 3600) + _GRACE_SECONDS, open_files=_OPEN_FILES),
                on_message=self._report,
                cancelled=self._cancelled,
            )
        except ChildFailed as error:
            raise RunFailed(self._stage, error.reason) from error
        if "failure" in completed.value:
            raise RunFailed(self._stage, completed.value["failure"])
        return completed

    def _report(self, message: Mapping[str, Any]) -> None:
        values = {name: float(value) for name, value in message.items() if name != "done"}
        self._on_progress(Progress(self._stage, int(message["done"]), self._total, values))


def _settings(protocol: Protocol) -> VerlSettings:
    return parse_settings(protocol, protocol.name)


def _workspace(job: Job) -> Path:
    return cache_folder("runs") / job.key


def _details(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(figures[name]) for name in _DETAILS}


def _correct(suites: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """How many of a problem's responses were right, for all problems of all suites."""
    return {
        f"correct/{suite}/{problem}": float(count)
        for suite, figures in suites.items()
        for problem, count in figures["correct"].items()
    }


def _write_whole(file: Path, text: str) -> None:
    unfinished = file.with_suffix(".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)
