"""Means with standard errors, differences paired by seed, and the difference that a protocol can detect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from poise_git.archive.entries import Estimate

# A difference exceeds noise if its interval of this confidence excludes 0.
CONFIDENCE = 0.95
# Levels at which a difference contradicts a stated noise, for many, few, and single differences, and the accepted
# probability that so many do by chance.
LEVELS = (0.05, 1e-3, 1e-6)
CHANCE = 1e-4


@dataclass(frozen=True)
class Noise:
    """Prior knowledge of the standard deviation of one seed's paired difference.

    `freedom` is the weight of this knowledge in degrees of freedom: it is larger if mechanisms differ less in their
    noise.
    """

    deviation: float
    freedom: float


@dataclass(frozen=True)
class PooledDeviation:
    """Standard deviation of one paired difference, pooled over `comparisons`, with `freedom` degrees of freedom.

    Comparisons share the root's runs and are not independent, so the degrees of freedom are an upper bound.
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


def paired_difference(
    of: Mapping[int, float], against: Mapping[int, float], noise: Noise | None = None
) -> Estimate | None:
    """Mean of of[seed] - against[seed] over the common seeds, with its interval; None without a common seed."""
    seeds = sorted(of.keys() & against.keys())
    if not seeds:
        return None
    difference = estimate([of[seed] - against[seed] for seed in seeds])
    return replace(difference, interval=half_width(difference, noise))


def half_width(difference: Estimate, noise: Noise | None = None) -> float | None:
    """Half the 95% interval of a mean of n paired differences; None if their noise is unknown.

    With d = n - 1 degrees of freedom in the sample variance s^2, and prior noise s_0 with d_0 degrees of freedom,
    t(.975, d_0 + d) sqrt((d_0 s_0^2 + d s^2) / (d_0 + d) / n)   (moderated t, Smyth 2004, doi:10.2202/1544-6115.1027).
    Four seeds alone measure their noise poorly: without s_0 the quantile is 3.2, with it nearly 2.
    """
    # Do not import scipy.stats: it takes a second to load, and listings call this function too.
    from scipy.special import stdtrit

    known = noise or Noise(0.0, 0.0)
    own = difference.n - 1
    freedom = known.freedom + own
    if not freedom:
        return None
    of_sample = own * difference.n * (difference.se or 0.0) ** 2
    variance = (known.freedom * known.deviation**2 + of_sample) / freedom
    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * math.sqrt(variance / difference.n)


def beyond_noise(difference: Estimate) -> bool:
    """Whether the interval of the difference excludes 0; without a stated interval, its own noise decides."""
    interval = half_width(difference) if difference.interval is None else difference.interval
    return interval is not None and abs(difference.value) > interval


def pooled_deviation(differences: Iterable[Estimate]) -> PooledDeviation | None:
    """Estimate the noise of one paired difference from many comparisons.

    Each comparison contributes s^2 = n * se^2 with weight n - 1. Differences that are equal on every seed come from
    mechanisms that had no effect. They carry no information about noise and are left out. None if no comparison is
    left.
    """
    squares, freedom, comparisons = 0.0, 0, 0
    for difference in differences:
        if difference.se:
            squares += difference.n * difference.se**2 * (difference.n - 1)
            freedom += difference.n - 1
            comparisons += 1
    return PooledDeviation(math.sqrt(squares / freedom), comparisons, freedom) if freedom else None


def understates(noise: Noise, differences: Iterable[Estimate]) -> bool:
    """Whether most of these differences are too noisy for the stated `noise`.

    Under it, s^2 / s_0^2 of a difference of n seeds has an F distribution with n - 1 and d_0 degrees of freedom. Some
    mechanisms are noisier than others, so more than half of the differences must be improbable, at one of the LEVELS,
    and more of them than CHANCE allows (binomial). Differences that are equal on every seed say nothing.
    """
    from scipy.special import bdtrc, fdtrc

    known = [difference for difference in differences if difference.n > 1 and difference.se]
    tails = [
        float(fdtrc(each.n - 1, noise.freedom, each.n * ((each.se or 0.0) / noise.deviation) ** 2)) for each in known
    ]
    for level in LEVELS:
        improbable = sum(tail < level for tail in tails)
        if improbable > len(tails) / 2 and float(bdtrc(improbable - 1, len(tails), level)) < CHANCE:
            return True
    return False


def detectable_difference(deviation: float, seeds: int, noise: Noise | None = None, power: float = 0.8) -> float | None:
    """Smallest true difference that `beyond_noise` detects, with its sign, at the given power on `seeds` paired seeds.

    With mean m and (moderated) standard error e, m / e has a noncentral t distribution with d_0 + n - 1 degrees of
    freedom and noncentrality delta sqrt(n) / deviation; delta is solved for P(m / e > t(.975)) = power. None if
    there are no degrees of freedom.
    """
    from scipy import optimize, stats

    freedom = seeds - 1 + (noise.freedom if noise else 0.0)
    if not freedom:
        return None
    quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)

    def lacking(noncentrality: float) -> float:
        return float(stats.nct.sf(quantile, freedom, noncentrality) - power)

    return float(optimize.brentq(lacking, 0.0, 100.0)) * deviation / math.sqrt(seeds)
