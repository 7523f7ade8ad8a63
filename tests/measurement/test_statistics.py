from __future__ import annotations

import random
import statistics

import pytest

from poise_git.archive.entries import Estimate
from poise_git.measurement.statistics import (
    Noise,
    beyond_noise,
    detectable_difference,
    estimate,
    half_width,
    paired_difference,
    pooled_deviation,
    understates,
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


def test_pairing_removes_the_shared_effect_of_seeds() -> None:
    of = {0: 1.1, 1: 5.2, 2: 9.1, 7: 100.0}
    against = {0: 1.0, 1: 5.0, 2: 9.0, 8: -100.0}
    found = paired_difference(of, against)
    assert found is not None
    assert found.value == pytest.approx(0.4 / 3)
    assert found.n == 3
    assert found.se is not None
    assert found.se < 0.1
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_a_difference_beyond_noise_is_outside_the_interval_on_either_side() -> None:
    assert beyond_noise(Estimate(0.021, 0.01, 4, interval=0.02))
    assert beyond_noise(Estimate(-0.021, 0.01, 4, interval=0.02))
    assert not beyond_noise(Estimate(0.019, 0.01, 4, interval=0.02))


def test_a_difference_without_an_interval_is_judged_by_its_own_noise() -> None:
    """t(.975) is 3.18 with 3 degrees of freedom."""
    assert half_width(Estimate(0.0, 0.01, 4)) == pytest.approx(0.0318, rel=1e-3)
    assert beyond_noise(Estimate(0.032, 0.01, 4))
    assert not beyond_noise(Estimate(0.031, 0.01, 4))


def test_known_noise_is_combined_with_the_deviation_of_the_seeds() -> None:
    """t(.975) is 2.069 with 20 + 3 degrees of freedom; s = 0.02 on 4 seeds."""
    found = half_width(Estimate(0.0, 0.01, 4), Noise(0.01, 20.0))
    assert found == pytest.approx(2.069 * ((20 * 0.01**2 + 3 * 0.02**2) / 23 / 4) ** 0.5, rel=1e-3)
    # One seed has no deviation, so only the known noise counts. t(.975) is 2.086 with 20 degrees of freedom.
    assert half_width(Estimate(0.0, None, 1), Noise(0.01, 20.0)) == pytest.approx(0.02086, rel=1e-3)
    assert half_width(Estimate(0.0, None, 1)) is None


def test_paired_differences_state_their_interval() -> None:
    of, against = {0: 1.1, 1: 5.2, 2: 9.1}, {0: 1.0, 1: 5.0, 2: 9.0}
    for noise in (None, Noise(0.1, 10.0)):
        found = paired_difference(of, against, noise)
        assert found is not None
        assert found.interval == half_width(found, noise)
        assert Estimate.from_data(found.to_data()) == found


def test_pooled_deviation_recovers_the_deviation_of_one_difference() -> None:
    rng = random.Random(3)
    gains = [estimate([rng.gauss(mean, 0.05) for _ in range(4)]) for mean in (0.0, 0.3, -0.2) for _ in range(200)]
    pooled = pooled_deviation(gains)
    assert pooled is not None
    assert (pooled.comparisons, pooled.freedom) == (600, 1800)
    assert pooled.value == pytest.approx(0.05, rel=0.05)
    assert pooled_deviation([Estimate(0.1, None, 1), Estimate(0.0, 0.0, 4)]) is None


@pytest.mark.parametrize("noise", [None, Noise(0.3, 30.0)])
@pytest.mark.parametrize("seeds", [2, 4, 8])
def test_the_rule_has_the_stated_power_and_false_alarm_rate(seeds: int, noise: Noise | None) -> None:
    rng, trials = random.Random(11), 3000

    def found(gap: float) -> float:
        draws = ({seed: rng.gauss(gap, 0.3) for seed in range(seeds)} for _ in range(trials))
        differences = (paired_difference(own, dict.fromkeys(own, 0.0), noise) for own in draws)
        return sum(difference is not None and beyond_noise(difference) for difference in differences) / trials

    gap = detectable_difference(0.3, seeds, noise)
    assert gap is not None
    assert found(gap) == pytest.approx(0.8, abs=0.04)
    assert found(0.0) == pytest.approx(0.05, abs=0.02)


def test_known_noise_reduces_the_detectable_difference_and_allows_one_seed() -> None:
    known = Noise(0.3, 30.0)
    assert detectable_difference(0.3, 1) is None
    alone, informed = (detectable_difference(0.3, 4, noise) for noise in (None, known))
    assert alone is not None
    assert informed is not None
    assert informed < 0.75 * alone
    one = detectable_difference(0.3, 1, known)
    assert one == pytest.approx(2 * informed, rel=0.05)


def test_a_stated_noise_is_contradicted_by_most_differences_or_by_none() -> None:
    chance = random.Random(0)

    def differences(deviation: float, count: int, n: int = 4) -> list[Estimate]:
        return [estimate([chance.gauss(0.0, deviation) for _ in range(n)]) for _ in range(count)]

    stated = Noise(0.005, 16)
    for count in (1, 2, 5, 50, 500):
        assert not understates(stated, differences(0.005, count))
        assert not understates(stated, differences(0.0005, count))
        assert understates(stated, differences(0.5, count))
    assert understates(stated, differences(0.012, 50))
    # One mechanism in four may be far noisier than the others.
    assert not understates(stated, [*differences(0.005, 30), *differences(0.5, 10)])
    assert not understates(stated, [Estimate(0.0, 0.0, 4)] * 50)
    assert not understates(stated, [])
    false_alarms = sum(understates(stated, differences(0.005, count)) for count in (1, 2, 3, 4) for _ in range(250))
    assert false_alarms <= 2


@pytest.mark.parametrize("deviation", [1e-12, 1e6])
@pytest.mark.parametrize("freedom", [1e-300, 1e9])
@pytest.mark.parametrize("se", [1e-100, 0.01, 1e100])
def test_the_noise_at_its_bounds_overflows_nothing(deviation: float, freedom: float, se: float) -> None:
    understates(Noise(deviation, freedom), [Estimate(0.1, se, 4)] * 4)
    assert half_width(Estimate(0.1, se, 4), Noise(deviation, freedom)) is not None


def test_the_smallest_stated_noise_is_contradicted() -> None:
    assert understates(Noise(1e-12, 1e9), [Estimate(0.1, 0.02, 4)] * 4)
