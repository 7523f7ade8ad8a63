"""Repeat an archived run and compare: the same recipe, protocol and seed should give the same figures.

On the testbed the figures are equal to the last bit. On other backends U may differ by the noise of one difference in
U.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from poise_git import events
from poise_git.archive.entries import Candidate, Estimate, Outcome, Reproduction, Run
from poise_git.errors import PoiseError, UsageError
from poise_git.experiment import Experiment
from poise_git.measurement.figures import UTILITY
from poise_git.measurement.statistics import Noise, estimate, half_width
from poise_git.pipeline.interface import Job, Progress
from poise_git.pipeline.sandbox.removal import remove_tree
from poise_git.steps.session import Session

# Backends whose figures depend only on recipe, protocol and seed, to the last bit.
EXACT = frozenset({"testbed"})
REASON_LENGTH = 200


def archived_run(experiment: Experiment, candidate: Candidate, seed: int | None) -> Run:
    """The run to repeat: the run of `seed`, or of the first seed of the protocol that has a run.

    Raises UsageError if there is no run.
    """
    found = {
        run.seed: run for run in experiment.archive.runs(candidate.name) if run.protocol == experiment.protocol.hash
    }
    if not found:
        raise UsageError(
            f"{candidate.name} has no archived run under protocol {experiment.protocol.name}; "
            f"train it: poise-git evaluate {candidate.name} --protocol {experiment.protocol.name}"
        )
    if seed is None:
        return next((found[each] for each in experiment.protocol.seeds if each in found), found[min(found)])
    if seed not in found:
        raise UsageError(f"{candidate.name} has no run of seed {seed}; it has {', '.join(map(str, sorted(found)))}")
    return found[seed]


def reproduce(session: Session, candidate: Candidate, before: Run) -> Reproduction:
    """Repeat the run, append the outcome to the candidate's note, and return it.

    Raises PoiseError if the code changed meanwhile, or the run was stopped.
    """

    experiment = session.experiment

    def progress(job: Job, made: Progress) -> None:
        session.observe(events.JobProgress(job.candidate, job.seed, made))

    # Use a separate folder, so that the run does not continue a run in progress or an interrupted one.
    job = replace(
        experiment.job(candidate.name, before.seed, purpose="reproduce"),
        containment=session.containing.of(candidate, experiment.archive.genealogy()),
    )
    remove_tree(job.scratch)
    job.scratch.mkdir()
    try:
        outcome = next(iter(session.executor.run([job], progress)), None)
    finally:
        remove_tree(job.scratch)
    if outcome is None:
        raise PoiseError(f"the run of {candidate.name} was stopped; run the same command again")
    if experiment.archive.recipe(candidate.name) != job.recipe:
        raise PoiseError(f"{candidate.name} changed during the repeated run; run the same command again")
    if outcome.run is None:
        found = Reproduction(
            before.protocol, before.seed, Outcome.FAILED, reason=f"it failed: {outcome.failure}"[:REASON_LENGTH]
        )
    else:
        found = compare(experiment, before, outcome.run)
    experiment.archive.add_reproduction(candidate.name, found)
    return found


def compare(experiment: Experiment, before: Run, again: Run) -> Reproduction:
    """The outcome of a repeated run, `again`, on this machine."""
    found = Reproduction(before.protocol, before.seed, Outcome.EQUAL, torch=torch_version(), processor=processor())
    apart = next(differences(before, again), None)
    if apart is None:
        return found
    values = [experiment.objective.figures([run])[UTILITY].get(before.seed, math.nan) for run in (before, again)]
    figure, one, other = apart
    found = replace(
        found,
        outcome=Outcome.DIFFERS,
        figure=figure,
        before=one,
        again=other,
        utility_apart=values[1] - values[0],
        allowed=allowed_difference(experiment),
    )
    if experiment.protocol.backend in EXACT or found.allowed is None or found.refutes:
        return found
    return replace(found, outcome=Outcome.WITHIN_NOISE)


def differences(before: Run, again: Run) -> Iterator[tuple[str, float | None, float | None]]:
    """Every figure that differs in any bit, with both values, the main figures of the run first.

    Seconds and isolation are not figures.
    """
    for kind, one, other in (
        ("values", before.values, again.values),
        ("curve", dict(enumerate(before.curve)), dict(enumerate(again.curve))),
        ("details", before.details, again.details),
        ("series", before.series, again.series),
    ):
        yield from _apart(kind, one, other)


def _apart(name: str, one: Any, other: Any) -> Iterator[tuple[str, float | None, float | None]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            yield from _apart(f"{name} {key}", one.get(key), other.get(key))
    elif isinstance(one, tuple | list) and isinstance(other, tuple | list):
        yield from _apart(name, dict(enumerate(one, 1)), dict(enumerate(other, 1)))
    elif isinstance(one, int | float) and isinstance(other, int | float):
        if one != other and not (math.isnan(one) and math.isnan(other)):
            yield name, float(one), float(other)
    elif one != other:
        first, second = _numbers(one, other)
        yield name, first, second


def _numbers(one: Any, other: Any) -> tuple[float | None, float | None]:
    found = [float(each) if isinstance(each, int | float) else None for each in (one, other)]
    return found[0], found[1]


def allowed_difference(experiment: Experiment) -> float | None:
    """The allowed difference in U of a repeated run: half the 95% interval of one difference in U.

    Its noise is the protocol's `paired_deviation` or the archive's own deviation between seeds, whichever allows less:
    an archive may state any noise. None if neither is known.
    """
    known = filter(None, (experiment.noise, deviation_between_seeds(experiment)))
    allowed = (half_width(Estimate(0.0, None, 1), noise) for noise in known)
    return min((each for each in allowed if each is not None), default=None)


def deviation_between_seeds(experiment: Experiment) -> Noise | None:
    """The deviation of the difference of two runs of one candidate, pooled over all candidates with several runs."""
    squares, freedom = 0.0, 0
    for name in experiment.evaluated():
        runs = experiment.runs(name, experiment.protocol.seeds)
        values = list(experiment.objective.figures(runs)[UTILITY].values())
        if len(values) > 1:
            own = estimate(values)
            squares += len(values) * (own.se or 0.0) ** 2 * (len(values) - 1)
            freedom += len(values) - 1
    # The difference of two runs has sqrt(2) times the deviation of one.
    return Noise(math.sqrt(2.0 * squares / freedom), freedom) if squares > 0 else None


def torch_version() -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("torch")
    return ""


def processor() -> str:
    """The model of this machine's processor, if known."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
