"""From runs to the metric vector y and the utility U(y)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from poise_git.archive.entries import Metrics, Run, Status
from poise_git.errors import UsageError
from poise_git.search.estimate import Noise, estimate, paired_difference

# The last part of training that late figures of a series are taken over.
LATE = 0.2


def utility(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """U(y) = sum over metrics of weight * value; the weights sum to 1."""
    return sum(weight * values[metric] for metric, weight in weights.items())


def objective_weights(suite_weights: Mapping[str, float], objective: Mapping[str, float]) -> dict[str, float]:
    """The weights of U: those of the objective if it has any, else the suites' own, summing to 1.

    Raises:
        UsageError: the objective names an unknown metric, or its weights do not sum to something positive.
    """
    if not objective:
        return dict(suite_weights)
    unknown = sorted(objective.keys() - suite_weights.keys())
    if unknown:
        known = ", ".join(sorted(suite_weights))
        raise UsageError(f"poise.yaml: objective.{unknown[0]}: the protocol has no such suite; it has {known}")
    total = sum(objective.values())
    if total <= 0:
        raise UsageError("poise.yaml: objective: the weights must sum to something positive")
    return {metric: weight / total for metric, weight in objective.items()}


def utilities(runs: Iterable[Run], weights: Mapping[str, float]) -> dict[int, float]:
    """U of each run, by seed."""
    return {run.seed: utility(run.values, weights) for run in runs}


def summarise(
    protocol: str,
    runs: Sequence[Run],
    root_runs: Sequence[Run] | None,
    weights: Mapping[str, float],
    noise: Noise | None = None,
) -> Metrics:
    """y with uncertainty from a candidate's runs; `root_runs` is None for the root itself.

    `noise` is what is known beforehand of differences in U.
    """
    of = utilities(runs, weights)
    return Metrics(
        status=Status.EVALUATED,
        protocol=protocol,
        utility=estimate(list(of.values())),
        gain=None if root_runs is None else paired_difference(of, utilities(root_runs, weights), noise),
        values={metric: estimate([run.values[metric] for run in runs]) for metric in runs[0].values},
        details={
            suite: {figure: estimate([run.details[suite][figure] for run in runs]) for figure in figures}
            for suite, figures in runs[0].details.items()
        },
        dynamics=late_dynamics(runs),
        seeds=tuple(run.seed for run in runs),
        cpu_seconds=sum(run.cpu_seconds for run in runs),
    )


def late_dynamics(runs: Iterable[Run]) -> dict[str, float]:
    """Of each recorded series the mean over the last fifth of training, averaged over runs and regimes.

    A backend's series are called "name" or "regime/name". Figures that are not finite are left out.
    """
    ends: dict[str, list[float]] = {}
    for run in runs:
        for name, series in run.series.items():
            late = series[-max(1, int(len(series) * LATE)) :]
            if late and math.isfinite(total := math.fsum(late)):
                ends.setdefault(name.rpartition("/")[2], []).append(total / len(late))
    return {name: math.fsum(found) / len(found) for name, found in sorted(ends.items())}
