"""Ranking and resolution of an instrument: pure functions of a table of figures.

A table is algorithm -> seed -> one figure. Algorithms are compared on the same seeds, because a seed also
determines the world: the world is the seed modulo the number of worlds. A choice of seeds is balanced if it has every
world once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from poise_git.archive.entries import Estimate
from poise_git.measurement.statistics import Noise, estimate, half_width, paired_difference

Figures = Mapping[int, float]
Table = Mapping[str, Figures]

# Beyond so many degrees of freedom a deviation is as good as known: quantiles move by less than 1%.
FREEDOMS = (1.0, 100.0)


@dataclass(frozen=True)
class Range:
    """Mean and extremes of `n` figures."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Components:
    """Variance between algorithms, and the residual variance of one run without algorithm and seed effects."""

    algorithms: float
    residual: float

    def reliability(self, seeds: int) -> float:
        """The share of the variance of means over `seeds` seeds that lies between algorithms."""
        total = self.algorithms + self.residual / seeds
        return self.algorithms / total if total > 0 else math.nan


@dataclass(frozen=True)
class Coverage:
    """The number of `trials` in which a stated interval contains a true difference of 0."""

    within: int
    trials: int

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(self.within + other.within, self.trials + other.trials)

    @property
    def share(self) -> float:
        return self.within / self.trials if self.trials else math.nan


def balanced_choices(seeds: Iterable[int], worlds: int) -> list[tuple[int, ...]]:
    """Every choice of one seed of each world; none if a world has no seed."""
    of_world = [[seed for seed in sorted(seeds) if seed % worlds == world] for world in range(worlds)]
    return list(itertools.product(*of_world))


def balanced_splits(seeds: Iterable[int], worlds: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every pair of disjoint balanced choices, once."""
    choices = balanced_choices(seeds, worlds)
    return [(left, right) for left, right in itertools.combinations(choices, 2) if not set(left) & set(right)]


def means(table: Table, seeds: Sequence[int]) -> dict[str, float]:
    return {name: math.fsum(figures[seed] for seed in seeds) / len(seeds) for name, figures in table.items()}


def rank_correlation(left: Mapping[str, float], right: Mapping[str, float]) -> float:
    """Spearman's correlation over the algorithms of `left`; NaN if one side is constant."""
    one, other = (stats.rankdata([side[name] for name in left]) for side in (left, right))
    if len(left) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


def split_correlation(table: Table, splits: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Range | None:
    """Spearman's correlation between the two halves of each split; None without splits."""
    found = [rank_correlation(means(table, left), means(table, right)) for left, right in splits]
    return Range(float(np.mean(found)), min(found), max(found), len(found)) if found else None


def closest_half(figures: Mapping[str, float]) -> list[str]:
    """The window of half the algorithms (rounded up), in the order of their figures, with the smallest range."""
    ordered = sorted(figures, key=lambda name: -figures[name])
    size = (len(ordered) + 1) // 2
    windows = [ordered[start : start + size] for start in range(len(ordered) - size + 1)]
    return min(windows, key=lambda window: figures[window[0]] - figures[window[-1]])


def ranks(figures: Mapping[str, float]) -> dict[str, int]:
    """Place of each algorithm, 1 for the largest figure; equal ones share the better place."""
    return {name: 1 + sum(other > own for other in figures.values()) for name, own in figures.items()}


def variance_components(table: Table, seeds: Sequence[int]) -> Components:
    """Two-way analysis of variance, algorithms by seeds, one run per cell (the interaction is the residual).

    E[MS_algorithms] = residual + n algorithms; a negative estimate of a variance counts as 0. Needs two of each.
    """
    figures = _matrix(table, seeds)
    rows, columns = figures.shape
    of_algorithm, of_seed = figures.mean(1, keepdims=True), figures.mean(0, keepdims=True)
    residual = float(((figures - of_algorithm - of_seed + figures.mean()) ** 2).sum() / ((rows - 1) * (columns - 1)))
    between = columns * float(of_algorithm.var(ddof=1))
    return Components(max(0.0, (between - residual) / columns), residual)


def covered(differences: Figures, choices: Iterable[Sequence[int]], noise: Noise | None) -> Coverage:
    """Trials in which the 95% interval of the mean difference of those seeds holds 0."""
    verdicts = []
    for seeds in choices:
        difference = estimate([differences[seed] for seed in seeds])
        half = half_width(difference, noise)
        verdicts.append(half is not None and abs(difference.value) <= half)
    return Coverage(sum(verdicts), len(verdicts))


def fit_noise(differences: Iterable[Estimate]) -> Noise | None:
    """The deviation of the next difference, estimated from many; None if fewer than two of them deviate.

    Sample variances s_g^2 with d_g degrees of freedom around variances that are scaled inverse chi-squared: with
    e_g = log s_g^2 - psi(d_g / 2) + log(d_g / 2), psi'(d_0 / 2) is the variance of e minus the mean of psi'(d_g / 2),
    and log s_0^2 the mean of e plus psi(d_0 / 2) - log(d_0 / 2)   (Smyth 2004, section 6.2).
    """
    rows = [(one.n * one.se**2, one.n - 1) for one in differences if one.se]
    if len(rows) < 2:
        return None
    variances, freedoms = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    e = np.log(variances) - special.digamma(freedoms / 2) + np.log(freedoms / 2)
    excess = float(e.var(ddof=1) - special.polygamma(1, freedoms / 2).mean())

    def lacking(freedom: float) -> float:
        return float(special.polygamma(1, freedom / 2)) - excess

    least, most = FREEDOMS
    if lacking(most) > 0:
        freedom = most
    elif lacking(least) < 0:
        freedom = least
    else:
        freedom = float(optimize.brentq(lacking, least, most))
    log_variance = float(e.mean() + special.digamma(freedom / 2) - np.log(freedom / 2))
    return Noise(math.exp(log_variance / 2), freedom)


def differences_from(table: Table, root: str) -> dict[str, Estimate]:
    """Each other algorithm's paired difference from `root`, where they share a seed."""
    found = {name: paired_difference(figures, table[root]) for name, figures in table.items() if name != root}
    return {name: one for name, one in found.items() if one is not None}


def t_value(difference: Estimate) -> float:
    """The difference in standard errors; NaN if it has no standard error."""
    return difference.value / difference.se if difference.se else math.nan


def _matrix(table: Table, seeds: Sequence[int]) -> NDArray[np.float64]:
    return np.array([[figures[seed] for seed in seeds] for figures in table.values()], dtype=np.float64)
