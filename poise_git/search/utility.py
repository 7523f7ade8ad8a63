"""From runs to the metric vector y, the utility U(y) and the violated constraints."""

from __future__ import annotations

from collections.abc import Sequence

from poise_git.archive.entries import Estimate, Metrics, Run, Status
from poise_git.errors import RunFailed
from poise_git.search.estimate import Noise, estimate, paired_difference
from poise_git.search.figures import UTILITY, late_dynamics
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
    seeds, where it was measured again: they make its gain, and with it its utility, more certain. Other seeds are
    other worlds, so that its utility then is the root's plus the gain.

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
    utility, gain = estimate(list(own[UTILITY].values())), None
    if root is not None:
        of, against = (objective.figures(more)[UTILITY] for more in again)
        gain = paired_difference(own[UTILITY] | of, root[UTILITY] | against, noise)
        if gain is not None and of.keys() & against.keys():
            base = estimate(list(root[UTILITY].values())).value
            utility = Estimate(base + gain.value, gain.se, gain.n)
    return Metrics(
        status=Status.EVALUATED,
        protocol=protocol,
        utility=utility,
        gain=gain,
        values={metric: estimate([run.values[metric] for run in runs]) for metric in runs[0].values},
        further={metric: estimate(list(own[metric].values())) for metric in objective.further},
        details={
            suite: {figure: estimate([run.details[suite][figure] for run in runs]) for figure in figures}
            for suite, figures in runs[0].details.items()
        },
        dynamics=late_dynamics(runs),
        seeds=tuple(run.seed for run in (*runs, *again[0])),
        cpu_seconds=sum(run.cpu_seconds for run in (*runs, *again[0])),
        objective=objective.fingerprint,
        violations=objective.violations(own, root),
    )
