"""Compute the metric vector y, the utility U(y) and the violated constraints from runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from poise_git.archive.entries import Estimate, Metrics, Run, Status
from poise_git.errors import RunFailed
from poise_git.measurement.figures import UTILITY, Figures, late_dynamics
from poise_git.measurement.objective import Objective
from poise_git.measurement.statistics import Noise, estimate, paired_difference

# A candidate fails at this stage if its runs lack a figure that the objective needs.
MEASURING = "objective"


@dataclass(frozen=True)
class Measured:
    """A candidate's figures on the protocol's seeds, and on more seeds if it was replicated."""

    own: Figures
    further: Figures

    @cached_property
    def every(self) -> Figures:
        """The figure on all seeds."""
        return {metric: {**by_seed, **self.further.get(metric, {})} for metric, by_seed in self.own.items()}


def compared(
    metric: str, of: Measured, against: Measured, noise: Noise | None = None
) -> tuple[Estimate, Estimate | None]:
    """The figure and its difference from the other candidate's, paired over all common seeds.

    Figures on different seeds are not comparable. If both candidates were replicated, the figure is therefore the
    other's on the protocol's seeds plus the difference over all seeds.
    """
    alone = estimate(list(of.own[metric].values()))
    difference = paired_difference(of.every[metric], against.every[metric], noise)
    if difference is None or not of.further.get(metric, {}).keys() & against.further.get(metric, {}).keys():
        return alone, difference
    base = estimate(list(against.own[metric].values())).value
    return Estimate(base + difference.value, difference.se, difference.n), difference


def summarize(
    protocol: str,
    runs: Sequence[Run],
    root_runs: Sequence[Run] | None,
    objective: Objective,
    noise: Noise | None = None,
    again: tuple[Sequence[Run], Sequence[Run]] = ((), ()),
) -> Metrics:
    """Compute y with uncertainty from a candidate's runs; `root_runs` is None for the root itself.

    `noise` is the prior knowledge of the noise of differences in U. `again` holds the runs of candidate and root on
    further seeds, if the candidate was replicated; they make its gain more certain, see `compared`.

    Raises RunFailed if a run has no finite value of a metric that the objective needs.
    """
    of = Measured(objective.figures(runs), objective.figures(again[0]))
    root = None if root_runs is None else Measured(objective.figures(root_runs), objective.figures(again[1]))
    for metric in objective.metrics:
        lacking = [run.seed for run in runs if run.seed not in of.own.get(metric, {})]
        if lacking:
            raise RunFailed(
                MEASURING, f"the run of seed {lacking[0]} has no finite value of {metric}, which the objective needs"
            )

    def measured(metric: str, known: Noise | None = None) -> tuple[Estimate, Estimate | None]:
        return (estimate(list(of.own[metric].values())), None) if root is None else compared(metric, of, root, known)

    utility, gain = measured(UTILITY, noise)
    return Metrics(
        status=Status.EVALUATED,
        protocol=protocol,
        utility=utility,
        gain=gain,
        values={metric: measured(metric)[0] for metric in runs[0].values},
        further={metric: measured(metric)[0] for metric in objective.further},
        details={
            suite: {figure: estimate([run.details[suite][figure] for run in runs]) for figure in figures}
            for suite, figures in runs[0].details.items()
        },
        dynamics=late_dynamics(runs),
        seeds=tuple(run.seed for run in (*runs, *again[0])),
        cpu_seconds=sum(run.cpu_seconds for run in (*runs, *again[0])),
        objective=objective.fingerprint,
        violations=objective.violations(of.every, None if root is None else root.every),
    )
