"""verl as a backend: train in one sandbox, evaluate in others.

A job's scratch folder keeps verl's checkpoints, so that interrupted training resumes from the last one. It then keeps
the trained weights, so that an interrupted evaluation does not repeat the training.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from poise_git.archive.entries import Isolation, Run
from poise_git.errors import CheckFailed, PoiseError, RunFailed
from poise_git.pipeline.backends.verl import evaluation, training
from poise_git.pipeline.backends.verl.configuration import checkpoint_folder
from poise_git.pipeline.backends.verl.preparation import Prepared, assemble_weights, prepare, suite_problems
from poise_git.pipeline.backends.verl.replies import EvaluationReply, TrainingReply, is_the_machines
from poise_git.pipeline.backends.verl.settings import VerlSettings, parse_settings
from poise_git.pipeline.backends.verl.versions import check_versions
from poise_git.pipeline.boundary.hosting import contain
from poise_git.pipeline.equipment import gpu_devices
from poise_git.pipeline.interface import Demand, Evaluated, Job, OnProgress, Progress, Resources, Trained
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.replies import Failure, Reply, StepReply, parse
from poise_git.pipeline.sandbox import Allowance, ChildFailed, Limits, Sandbox
from poise_git.pipeline.sandbox.removal import fresh_folder, remove_tree

_OPEN_FILES = 65536
_PROCESSES = 16384
# Training ends itself at its limits and states a reason. After this grace period the sandbox ends the child.
_GRACE_SECONDS = 300
# A folder in the scratch folder. Processes that hold the candidate can write only there.
_CHILD = "child"
# The fields of `SuiteScores` that are compared between candidates.
_DETAILS = ("valid_rate", "cut_off_rate", "timed_out", "mean_words")


class VerlBackend:
    """See `poise_git.pipeline.interface.Backend`."""

    def validate(self, protocol: Protocol, file: str) -> None:
        settings = parse_settings(protocol, file)
        check_versions(settings.hardware.device)

    def prepare(self, protocol: Protocol, sandbox: Sandbox, on_progress: OnProgress, workers: int) -> None:
        check_versions(_settings(protocol).hardware.device)
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
        _start_afresh_unless_made_of(job.scratch, prepared)
        finished, weights, child = (job.scratch / name for name in ("trained.json", "weights", _CHILD))
        if not finished.exists():
            reply, cpu_seconds, isolation = self._train(job, settings, prepared, sandbox, on_progress, cancelled)
            last = checkpoint_folder(child / training.CHECKPOINTS, settings.steps)
            assemble_weights(prepared.model, child, last, weights)
            kept = {"series": reply.series, "cpu_seconds": cpu_seconds, "isolation": isolation.to_data()}
            _write_whole(finished, json.dumps(kept))
            remove_tree(child)
        result = json.loads(finished.read_text(encoding="utf-8"))
        series = {name: tuple(values) for name, values in result["series"].items()}
        return Trained(series, weights, float(result["cpu_seconds"]), Isolation.from_data(result["isolation"]))

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
        arguments = {
            "weights": str(trained.weights.absolute()),
            "cpus": int(self.demand(job.protocol).evaluation.cpus),
            "problems": {suite: [asdict(problem) for problem in listed] for suite, listed in problems.items()},
        }
        child = _Child(
            "evaluate", sum(map(len, problems.values())), settings.limits.evaluation_hours, job, settings, sandbox,
            on_progress, cancelled,
        )  # fmt: skip
        entry = f"{evaluation.__name__}:{evaluation.evaluate.__name__}"
        with fresh_folder(job.scratch, "evaluate-") as scratch:
            reply, cpu_seconds = child.run(entry, arguments, scratch, (trained.weights,), EvaluationReply)
        if set(reply.suites) != set(problems):
            raise RunFailed("evaluate", "the reply does not match the requested suites")
        return Evaluated(shard, reply.model_dump(mode="json"), cpu_seconds)

    def assemble(self, job: Job, trained: Trained, evaluated: Sequence[Evaluated]) -> Run:
        suites: dict[str, Mapping[str, Any]] = {}
        for shard in evaluated:
            suites |= shard.data["suites"]
        weights = job.protocol.suite_weights
        values = {suite: float(suites[suite]["value"]) for suite in weights}
        overall = sum(weight * values[suite] for suite, weight in weights.items())
        return Run(
            protocol=job.protocol.hash,
            seed=job.seed,
            values=values,
            details={suite: _details(suites[suite]) for suite in weights},
            series=trained.series,
            # The counts of right answers allow a comparison of runs problem by problem.
            curve=({"step": _settings(job.protocol).steps, "overall": overall, **values, **_correct(suites)},),
            cpu_seconds=trained.cpu_seconds + sum(shard.cpu_seconds for shard in evaluated),
            isolation=trained.isolation,
        )

    def _train(
        self,
        job: Job,
        settings: VerlSettings,
        prepared: Prepared,
        sandbox: Sandbox,
        on_progress: OnProgress,
        cancelled: threading.Event,
    ) -> tuple[TrainingReply, float, Isolation]:
        scratch = job.scratch / _CHILD
        scratch.mkdir(parents=True, exist_ok=True)
        child = _Child("train", settings.steps, settings.limits.hours, job, settings, sandbox, on_progress, cancelled)
        arguments = {
            "model": str(prepared.model),
            "training_data": str(prepared.training_data),
        }
        entry = f"{training.__name__}:{training.train.__name__}"
        readable = (prepared.model, prepared.training_data)
        try:
            with contain(sandbox, job.recipe, job.containment, child.limits) as candidate:
                reply, cpu_seconds = child.run(
                    entry, {**arguments, **candidate.arguments}, scratch, readable, TrainingReply, candidate.handed
                )
            reply.require_whole(settings.steps)
        except RunFailed as failure:
            # A failed training is not resumed: the next attempt starts afresh.
            remove_tree(scratch)
            raise RunFailed(failure.stage, candidate.failure or failure.reason) from failure
        except (ChildFailed, CheckFailed) as error:
            raise RunFailed("train", error.reason) from error
        return reply, cpu_seconds + candidate.cpu_seconds, candidate.isolation


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
        self._done = 0

    @property
    def _wall_seconds(self) -> int:
        return int(self._hours * 3600) + _GRACE_SECONDS

    @property
    def limits(self) -> Limits:
        """The limits of the candidate's processes: those of the settings, with the time limit of the stage."""
        return replace(self._sandbox.limits, wall_seconds=self._wall_seconds, cpu_seconds=self._wall_seconds)

    def run(
        self,
        entry: str,
        arguments: Mapping[str, Any],
        folder: Path,
        readable: Sequence[Path],
        expected: type[Reply],
        handed: Sequence[int] = (),
    ) -> tuple[Reply, float]:
        """Return the child's reply and its CPU seconds.

        Raises:
            RunFailed: the candidate's fault.
            PoiseError: it failed before its first step, and the reason does not point to the candidate.
            Cancelled: the caller asked the job to stop.
        """
        cuda = self._settings.hardware.device == "cuda"
        try:
            completed = self._sandbox.run(
                entry,
                {
                    "settings": self._settings.model_dump(mode="json"),
                    "seed": self._job.seed,
                    "gpus": [_device_name(index) for index in self._job.gpus],
                    **arguments,
                },
                folder,
                allowance=Allowance(
                    readable=(*readable, *((Path("/sys"),) if cuda else ())),
                    devices=gpu_devices() if cuda else (),
                    services=True,
                ),
                limits=Limits(wall_seconds=self._wall_seconds, processes=_PROCESSES, open_files=_OPEN_FILES),
                handed=handed,
                on_message=self._report,
                cancelled=self._cancelled,
            )
        except ChildFailed as error:
            raise RunFailed(self._stage, error.reason) from error
        reply = parse(completed.value, expected, self._stage)
        if not isinstance(reply, Failure):
            return reply, completed.cpu_seconds
        if is_the_machines(reply) and self._done == 0:
            raise PoiseError(
                f"{self._stage} of {self._job.candidate} could not start: {reply.reason}; `poise-git gpu-check` shows "
                "what this machine can run; then run the same command again"
            )
        raise RunFailed(self._stage, reply.reason)

    def _report(self, message: Mapping[str, Any]) -> None:
        step = parse(message, StepReply, self._stage)
        if not isinstance(step, Failure):
            self._done = step.done
            self._on_progress(Progress(self._stage, step.done, self._total, step.values))


def _settings(protocol: Protocol) -> VerlSettings:
    return parse_settings(protocol, protocol.name)


def _details(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(figures[name]) for name in _DETAILS}


def _correct(suites: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The number of right responses to each problem of each suite."""
    return {
        f"correct/{suite}/{problem}": float(count)
        for suite, figures in suites.items()
        for problem, count in figures["correct"].items()
    }


def _device_name(index: int) -> str:
    """The device's name in CUDA_VISIBLE_DEVICES. If that list holds UUIDs, an index is a position in it."""
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    by_place = len(names) > index and not names[index].isdecimal()
    return names[index] if by_place else str(index)


def _start_afresh_unless_made_of(scratch: Path, prepared: Prepared) -> None:
    """Empty the scratch folder unless the interrupted run in it used the same model and training data."""
    file = scratch / "made-of.json"
    made_of = json.dumps({"model": str(prepared.model), "training_data": str(prepared.training_data)})
    if file.exists() and file.read_text(encoding="utf-8") == made_of:
        return
    for left in scratch.iterdir():
        remove_tree(left)
    _write_whole(file, made_of)


def _write_whole(file: Path, text: str) -> None:
    unfinished = file.with_suffix(".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)
