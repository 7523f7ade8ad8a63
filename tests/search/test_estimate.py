from __future__ import annotations

import random
import statistics

import pytest

from poise_git.archive.entries import Estimate
from poise_git.search.estimate import (
    beyond_noise,
    detectable_difference,
    estimate,
    false_positive_rate,
    paired_difference,
    pooled_deviation,
)


def test_estimate_is_mean_and_standard_error() -> None:
    values = [0.1, 0.4, 0.7, 0.2]
    found = estimate(values)
    assert found.value == pytest.approx(statistics.mean(values))
    assert found.se == pytest.approx(statistics.stdev(values) / 2)
    assert found.n == 4


def test_one_run_has_no_standard_error() -> None:
    assert estimate([0.3]) == Estimate(0.3, None, 1)
    assert not beyond_noise(Estimate(5.0, None, 1))


def test_pairing_removes_what_seeds_share() -> None:
    of = {0: 1.1, 1: 5.2, 2: 9.1, 7: 100.0}
    against = {0: 1.0, 1: 5.0, 2: 9.0, 8: -100.0}
    found = paired_difference(of, against)
    assert found is not None
    assert found.value == pytest.approx(0.4 / 3)
    assert found.n == 3
    assert found.se is not None
    assert found.se < 0.1
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_beyond_noise_is_two_standard_errors_in_either_direction() -> None:
    assert beyond_noise(Estimate(0.021, 0.01, 4))
    assert beyond_noise(Estimate(-0.021, 0.01, 4))
    assert not beyond_noise(Estimate(0.019, 0.01, 4))


def test_pooled_deviation_recovers_the_deviation_of_one_difference() -> None:
    rng = random.Random(3)
    gains = [estimate([rng.gauss(mean, 0.05) for _ in range(4)]) for mean in (0.0, 0.3, -0.2) for _ in range(200)]
    pooled = pooled_deviation(gains)
    assert pooled is not None
    assert (pooled.comparisons, pooled.freedom) == (600, 1800)
    assert pooled.value == pytest.approx(0.05, rel=0.05)
    assert pooled_deviation([Estimate(0.1, None, 1), Estimate(0.0, 0.0, 4)]) is None


@pytest.mark.parametrize("seeds", [2, 4, 8])
def test_the_rule_has_the_stated_power_and_false_positives(seeds: int) -> None:
    rng, trials = random.Random(11), 4000

    def found(gap: float) -> float:
        return sum(beyond_noise(estimate([rng.gauss(gap, 0.3) for _ in range(seeds)])) for _ in range(trials)) / trials

    assert found(detectable_difference(0.3, seeds)) == pytest.approx(0.8, abs=0.03)
    assert found(0.0) == pytest.approx(false_positive_rate(seeds), abs=0.03)
