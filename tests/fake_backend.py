"""A backend that trains nothing: a run's figures follow from the text of the algorithm and the seed.

With it the invariants of the loop run in seconds, on a real archive. It keeps the contract of `Backend`: the
candidate's code does not run, the same job has the same figures, and a stage stops when it is cancelled.

    python -m tests.fake_backend evolve DIR ...

is the command line with this backend and with checks that only read, for tests that need another process.
"""

from __future__ import annotations

import hashlib
import random
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from poise_git.analysis.evidence import ClaimVerdict, Verdict
from poise_git.archive.entries import Claim, Run
from poise_git.errors import RunFailed, UsageError
from poise_git.pipeline.backends import BACKENDS
from poise_git.pipeline.backends.kind import BackendKind, RunRecord
from poise_git.pipeline.boundary.hosting import STRICT, Containment
from poise_git.pipeline.checks.runner import CheckReport, check_text
from poise_git.pipeline.estimate import CostEstimate
from poise_git.pipeline.interface import Backend, Demand, Evaluated, Job, OnProgress, Progress, Resources, Trained
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.recipe import ALGORITHM
from poise_git.pipeline.sandbox import Cancelled, Sandbox

NAME = "fake"
PROGRAM = "tests.fake_backend"
STEPS = 3
SERIES = ("reward", "correct_rate", "entropy", "response_length", "gradient_norm")


class FakeBackend:
    """Makes up the figures of a run.

    A suite's value is the sum of a draw by the algorithm's text, a draw by the seed, and a little noise: gains differ
    between candidates, and are paired by seed.

    Attributes:
        trained: candidate and seed of every job of this process, in the order in which they began.
        failing: candidates whose training fails.
    """

    trained: ClassVar[list[tuple[str, int]]] = []
    failing: ClassVar[set[str]] = set()

    def validate(self, protocol: Protocol, file: str) -> None: ...

    def prepare(self, protocol: Protocol, sandbox: Sandbox, on_progress: OnProgress, workers: int) -> None:
        on_progress(Progress("prepare", 1, 1))

    def demand(self, protocol: Protocol) -> Demand:
        return Demand(training=Resources(), evaluation=Resources())

    def train(self, job: Job, sandbox: Sandbox, on_progress: OnProgress, cancelled: threading.Event) -> Trained:
        self.trained.append((job.candidate, job.seed))
        draw = _draws(job, "train")
        series: dict[str, list[float]] = {name: [] for name in SERIES}
        for step in range(STEPS):
            if cancelled.is_set():
                raise Cancelled
            for name in SERIES:
                series[name].append(draw.random())
            on_progress(Progress("train", step + 1, STEPS, {"reward": series["reward"][-1]}))
        if job.candidate in self.failing:
            raise RunFailed("train", "it fails here")
        return Trained({name: tuple(values) for name, values in series.items()}, job.scratch, cpu_seconds=1.0)

    def shards(self, protocol: Protocol) -> tuple[str, ...]:
        return tuple(protocol.suites)

    def evaluate(
        self,
        job: Job,
        trained: Trained,
        shard: str,
        sandbox: Sandbox,
        on_progress: OnProgress,
        cancelled: threading.Event,
    ) -> Evaluated:
        if cancelled.is_set():
            raise Cancelled
        text = random.Random(f"{shard} {job.recipe[ALGORITHM]}").random()
        seed = random.Random(f"{shard} {job.seed}").random()
        draw = _draws(job, shard)
        on_progress(Progress("evaluate", 1, 1))
        figures = {"value": 0.4 * text + 0.4 * seed + 0.1 * draw.random(), "mean_length": 4 + 8 * draw.random()}
        return Evaluated(shard, figures, cpu_seconds=1.0)

    def assemble(self, job: Job, trained: Trained, evaluated: Sequence[Evaluated]) -> Run:
        values = {one.shard: float(one.data["value"]) for one in evaluated}
        weights: Mapping[str, float] = job.protocol.suite_weights
        overall = sum(weights[suite] * value for suite, value in values.items())
        return Run(
            protocol=job.protocol.hash,
            seed=job.seed,
            values=values,
            details={one.shard: {"mean_length": float(one.data["mean_length"])} for one in evaluated},
            series=trained.series,
            curve=({"point": 0, "overall": overall, **values},),
            cpu_seconds=trained.cpu_seconds + sum(one.cpu_seconds for one in evaluated),
        )


class FakeRecord(RunRecord):
    """Allow this backend in any run."""

    def __init__(self, protocol: Protocol) -> None: ...

    def defects(self, run: Run) -> Iterator[str]:
        yield from ()


class Fake(BackendKind):
    """The registration of `FakeBackend`."""

    name = NAME
    default_protocol = "tiny"

    def open(self) -> Backend:
        return FakeBackend()

    def estimate_cost(self, protocol: Protocol, file: str) -> CostEstimate:
        raise UsageError("a run costs nothing")

    def record_of(self, protocol: Protocol) -> RunRecord:
        return FakeRecord(protocol)


def _draws(job: Job, stage: str) -> random.Random:
    """A random generator that depends only on the algorithm, the protocol, the seed and the stage."""
    return random.Random(f"{hashlib.sha256(job.recipe[ALGORITHM].encode()).hexdigest()} {job.key} {stage}")


def check_by_reading(
    recipe: Mapping[str, str],
    claims: Sequence[Claim],
    parent: Mapping[str, str],
    sandbox: Sandbox,
    scratch: Path,
    containment: Containment = STRICT,
) -> CheckReport:
    """`check_candidate` without the checks that run code: every claim stays undecided."""
    verdicts = tuple(ClaimVerdict(claim, Verdict.UNDECIDED, "the code did not run") for claim in claims)
    return CheckReport((), check_text(recipe, parent), verdicts)


def main() -> None:
    from poise_git.cli.main import main as command_line
    from poise_git.steps import verify

    BACKENDS[NAME] = Fake()
    verify.check_candidate = check_by_reading
    sys.argv[0] = "poise-git"
    command_line()


if __name__ == "__main__":
    main()
