"""Means with standard errors, differences paired by seed, and what difference a protocol can detect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from poise_git.archive.entries import Estimate

# Beyond this many standard errors a difference counts as more than noise.
BEYOND_NOISE = 2.0


@dataclass(frozen=True)
class PooledDeviation:
    """Standard deviation of one paired difference, pooled over `comparisons`, with `freedom` degrees of freedom.

    Comparisons share the root's runs and are not independent: the degrees of freedom are an upper bound.
    """

    value: float
    comparisons: int
    freedom: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of independent runs and its standard error s / sqrt(n), s with n - 1."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Estimate(mean, None, n)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Estimate(mean, math.sqrt(variance / n), n)


def paired_difference(of: Mapping[int, float], against: Mapping[int, float]) -> Estimate | None:
    """Mean of of[seed] - against[seed] over the seeds both have; None if they share none."""
    seeds = sorted(of.keys() & against.keys())
    return estimate([of[seed] - against[seed] for seed in seeds]) if seeds else None


def beyond_noise(difference: Estimate) -> bool:
    return difference.se is not None and abs(difference.value) > BEYOND_NOISE * difference.se


def pooled_deviation(differences: Iterable[Estimate]) -> PooledDeviation | None:
    """The noise of one paired difference, from many comparisons.

    Of each comparison s^2 = n * se^2, weighted by n - 1. Differences that are the same on every seed come from
    mechanisms that never acted: they say nothing of noise and are left out. None if nothing is left.
    """
    squares, freedom, comparisons = 0.0, 0, 0
    for difference in differences:
        if difference.se:
            squares += difference.n * difference.se**2 * (difference.n - 1)
            freedom += difference.n - 1
            comparisons += 1
    return PooledDeviation(math.sqrt(squares / freedom), comparisons, freedom) if freedom else None


def false_positive_rate(seeds: int) -> float:
    """How often `beyond_noise` calls a difference of nothing at all more than noise: P(|t| > 2), n - 1 degrees."""
    from scipy import stats

    return float(2.0 * stats.t.sf(BEYOND_NOISE, seeds - 1))


def detectable_difference(deviation: float, seeds: int, power: float = 0.8) -> float:
    """Smallest true difference that `beyond_noise` finds, with its sign, at the given power from `seeds` paired seeds.

    With the mean m and standard error e of n normal differences, m / e has a noncentral t distribution with n - 1
    degrees of freedom and noncentrality delta sqrt(n) / deviation; delta is solved for P(m / e > 2) = power.
    """
    from scipy import optimize, stats

    def lacking(noncentrality: float) -> float:
        return float(stats.nct.sf(BEYOND_NOISE, seeds - 1, noncentrality) - power)

    return float(optimize.brentq(lacking, 0.0, 20.0)) * deviation / math.sqrt(seeds)
