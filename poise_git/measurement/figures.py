"""All figures of a run: the metrics of its suites, their mean, further final figures, and summaries of training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from poise_git.archive.entries import Run
from poise_git.settings import OVERALL

# The values of one figure over a set of runs, by the run's seed.
Figures = Mapping[str, Mapping[int, float]]

UTILITY = "utility"
# Names of figures that are computed from the suites; no suite may use them.
RESERVED = frozenset({OVERALL, UTILITY})
# The late figure of a series is the average over this last share of training.
LATE = 0.2


def overall(values: Mapping[str, float], suites: Mapping[str, float]) -> float:
    """The protocol's mean of suites: sum over suites of weight * value; the weights sum to 1."""
    return sum(weight * values[suite] for suite, weight in suites.items())


def figures(runs: Iterable[Run], suites: Mapping[str, float], asked: Iterable[str] = ()) -> dict[str, dict[int, float]]:
    """The metrics, "overall", final details and the means of series, by seed; non-finite values are left out.

    `suites` holds the protocol's weights. A detail ("pass@8", "mean_length") is the mean of the figure over suites. A
    series is the mean over the regimes that recorded it and the steps that have a value. Those of one suite or regime
    ("long/pass@8", "long/entropy") are there only if they are `asked` for. A metric takes precedence over a detail or
    series of the same name.
    """
    of_one = [(name, *name.split("/", 1)) for name in asked if "/" in name]
    table: dict[str, dict[int, float]] = {}
    for run in runs:
        found = {**run.values, OVERALL: overall(run.values, suites)}
        for name in dict.fromkeys(name for suite in run.details.values() for name in suite):
            values = [suite[name] for suite in run.details.values() if name in suite]
            found.setdefault(name, math.fsum(values) / len(values))
        for name, rows in of_all_regimes([run]).items():
            found.setdefault(name, mean_of_means(rows))
        for name, suite, figure in of_one:
            if (value := run.details.get(suite, {}).get(figure)) is not None:
                found.setdefault(name, value)
            elif name in run.series:
                found.setdefault(name, mean_of_means([run.series[name]]))
        for name, value in found.items():
            if math.isfinite(value):
                table.setdefault(name, {})[run.seed] = value
    return table


def by_regime(runs: Iterable[Run]) -> dict[str, dict[str, list[Sequence[float]]]]:
    """Regime -> name -> one series per run. Backends name a series "name" or "regime/name"."""
    table: dict[str, dict[str, list[Sequence[float]]]] = {}
    for run in runs:
        for name, series in run.series.items():
            regime, _, figure = name.rpartition("/")
            if series:
                table.setdefault(regime, {}).setdefault(figure, []).append(series)
    return table


def of_all_regimes(runs: Iterable[Run]) -> dict[str, list[Sequence[float]]]:
    """Name -> one series per run and regime."""
    together: dict[str, list[Sequence[float]]] = {}
    for recorded in by_regime(runs).values():
        for figure, rows in recorded.items():
            together.setdefault(figure, []).extend(rows)
    return together


def late(series: Sequence[float]) -> Sequence[float]:
    """The last fifth of a series."""
    return series[-max(1, int(len(series) * LATE)) :]


def mean_of_means(rows: Iterable[Sequence[float]]) -> float:
    """The mean over series of the mean over the steps that have a value; NaN if no step has one."""
    means = [math.fsum(known) / len(known) for row in rows if (known := [step for step in row if math.isfinite(step)])]
    return math.fsum(means) / len(means) if means else math.nan


def late_dynamics(runs: Iterable[Run]) -> dict[str, float]:
    """The mean over the last fifth of training of each recorded series, averaged over runs and regimes.

    Non-finite values are left out.
    """
    ends = {name: mean_of_means([late(row) for row in rows]) for name, rows in sorted(of_all_regimes(runs).items())}
    return {name: end for name, end in ends.items() if math.isfinite(end)}
