"""From runs to the metric vector y, the utility U(y) and the violated constraints."""

from __future__ import annotations

from collections.abc import Sequence

from poise_git.archive.entries import Estimate, Metrics, Run, Status
from poise_git.errors import RunFailed
from poise_git.search.estimate import Noise, estimate, paired_difference
from poise_git.search.figures import UTILITY, Figures, late_dynamics
from poise_git.search.objective import Objective

# The stage at which a candidate fails whose runs lack a figure that the objective looks at.
MEASURING = "objective"


def summarise(
    protocol: str,
    runs: Sequence[Run],
    root_runs: Sequence[Run] | None,
    objective: Objective,
    noise: Noise | None = None,
    again: tuple[Sequence[Run], Sequence[Run]] = ((), ()),
) -> Metrics:
    """y with uncertainty from a candidate's runs; `root_runs` is None for the root itself.

    `noise` is what is known beforehand of differences in U. `again` are the runs of candidate and root on further
    seeds, where it was measured again: they make its gain more certain. Other seeds are other worlds, so that its
    utility, and every other value, then is the root's plus the difference of all seeds.

    Raises:
        RunFailed: a run has no finite figure of a metric that the objective looks at.
    """
    own = objective.figures(runs)
    root = None if root_runs is None else objective.figures(root_runs)
    for metric in objective.metrics:
        lacking = [run.seed for run in runs if run.seed not in own.get(metric, {})]
        if lacking:
            raise RunFailed(
                MEASURING, f"the run of seed {lacking[0]} has no finite {metric}, which the objective needs"
            )
    of, against = (objective.figures(more) for more in again)
    every_own, every_root = _joined(own, of), None if root is None else _joined(root, against)

    def measured(metric: str, known: Noise | None = None) -> tuple[Estimate, Estimate | None]:
        """The figure and its difference from the root's."""
        alone = estimate(list(own[metric].values()))
        if root is None or every_root is None:
            return alone, None
        difference = paired_difference(every_own[metric], every_root[metric], known)
        if difference is None or not of.get(metric, {}).keys() & against.get(metric, {}).keys():
            return alone, difference
        base = estimate(list(root[metric].values())).value
        return Estimate(base + difference.value, difference.se, difference.n), difference

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
        violations=objective.violations(every_own, every_root),
    )


def _joined(figures: Figures, more: Figures) -> dict[str, dict[int, float]]:
    """The figures of both sets of runs."""
    return {metric: {**by_seed, **more.get(metric, {})} for metric, by_seed in figures.items()}
