"""Means with standard errors, differences paired by seed, and what difference a protocol can detect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from poise_git.archive.entries import Estimate

# Beyond this many standard errors a difference counts as more than noise.
BEYOND_NOISE = 2.0


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


def pooled_deviation(differences: Iterable[Estimate]) -> tuple[float, int] | None:
    """Standard deviation of one paired difference, pooled over comparisons, and its degrees of freedom.

    Of each comparison s^2 = n * se^2 with n - 1 degrees of freedom. None if nothing has two seeds.
    """
    squares, freedom = 0.0, 0
    for difference in differences:
        if difference.se is not None:
            squares += difference.n * difference.se**2 * (difference.n - 1)
            freedom += difference.n - 1
    return (math.sqrt(squares / freedom), freedom) if freedom else None


def detectable_difference(deviation: float, freedom: int, seeds: int, power: float = 0.8, level: float = 0.05) -> float:
    """Smallest true difference that `seeds` paired seeds find with the given power at a two-sided level.

    (t_{1 - level/2} + t_power) * deviation / sqrt(seeds), t with `freedom` degrees of freedom.
    """
    from scipy import stats

    quantiles = stats.t.ppf(1 - level / 2, freedom) + stats.t.ppf(power, freedom)
    return float(quantiles * deviation / math.sqrt(seeds))
