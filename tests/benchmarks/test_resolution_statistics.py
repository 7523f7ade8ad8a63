from __future__ import annotations

import math
import random

import numpy as np
import pytest
from resolution_statistics import (
    Components,
    Coverage,
    balanced_choices,
    balanced_splits,
    closest_half,
    covered,
    differences_from,
    fit_noise,
    means,
    rank_correlation,
    ranks,
    split_correlation,
    t_value,
    variance_components,
)

from poise_git.archive.entries import Estimate
from poise_git.measurement.statistics import Noise, estimate


def test_a_choice_has_every_world_once() -> None:
    choices = balanced_choices(range(1000, 1008), 4)
    assert len(set(choices)) == 16
    assert all(sorted(seed % 4 for seed in choice) == [0, 1, 2, 3] for choice in choices)
    assert balanced_choices([0, 1, 4], 4) == []


def test_the_halves_of_a_split_share_no_seed() -> None:
    splits = balanced_splits(range(1000, 1008), 4)
    assert len(splits) == 8
    assert all(sorted((*left, *right)) == list(range(1000, 1008)) for left, right in splits)
    assert balanced_splits(range(4), 4) == []


def test_rank_correlation_is_that_of_spearman() -> None:
    left = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    # 1 - 6 Σ d² / (n (n² - 1)), d = 1, -1, 0, 0.
    assert rank_correlation(left, {"a": 20.0, "b": 10.0, "c": 30.0, "d": 99.0}) == pytest.approx(1 - 6 * 2 / 60)
    assert rank_correlation(left, {name: -value for name, value in left.items()}) == pytest.approx(-1.0)
    assert math.isnan(rank_correlation(left, dict.fromkeys(left, 0.5)))


def test_split_correlation_compares_the_means_of_the_halves() -> None:
    table = {"a": {0: 1.0, 1: 1.0, 2: 9.0, 3: 9.0}, "b": {0: 2.0, 1: 2.0, 2: 8.0, 3: 8.0}}
    assert means(table, [0, 2]) == {"a": 5.0, "b": 5.0}
    found = split_correlation(table, [((0, 1), (2, 3)), ((0, 1), (0, 1))])
    assert found is not None
    assert [found.low, found.high, found.n] == pytest.approx([-1.0, 1.0, 2])
    assert found.mean == pytest.approx(0.0)
    assert split_correlation(table, []) is None


def test_the_closest_half_is_the_window_of_smallest_range() -> None:
    figures = {"a": 0.9, "b": 0.50, "c": 0.49, "d": 0.47, "e": 0.1}
    assert closest_half(figures) == ["b", "c", "d"]
    assert ranks({"a": 0.2, "b": 0.9, "c": 0.2}) == {"b": 1, "a": 2, "c": 2}


def test_variance_components_recover_the_simulated_variances() -> None:
    rng = random.Random(1)
    of_seed = [rng.gauss(0.0, 5.0) for _ in range(40)]
    table = {}
    for name in range(200):
        own = rng.gauss(0.0, 0.3)
        table[str(name)] = {seed: own + of_seed[seed] + rng.gauss(0.0, 0.4) for seed in range(40)}
    found = variance_components(table, range(40))
    assert math.sqrt(found.algorithms) == pytest.approx(0.3, rel=0.15)
    assert math.sqrt(found.residual) == pytest.approx(0.4, rel=0.03)
    assert Components(0.09, 0.16).reliability(1) == pytest.approx(0.36)
    assert Components(0.09, 0.16).reliability(4) == pytest.approx(0.09 / 0.13)


def test_equal_algorithms_have_no_variance_between_them() -> None:
    alternating = {"a": {0: 1.0, 1: 0.0}, "b": {0: 0.0, 1: 1.0}}
    assert variance_components(alternating, [0, 1]).algorithms == 0.0
    assert math.isnan(Components(0.0, 0.0).reliability(4))


def test_intervals_cover_a_zero_difference_at_the_stated_rate() -> None:
    rng = random.Random(2)
    seeds = range(4 * 3000)
    differences = {seed: rng.gauss(0.0, 0.05) for seed in seeds}
    choices = [tuple(range(first, first + 4)) for first in seeds[::4]]
    biased = {seed: value + 0.2 for seed, value in differences.items()}
    for noise in (None, Noise(0.05, 50.0)):
        assert covered(differences, choices, noise).share == pytest.approx(0.95, abs=0.015)
        assert covered(biased, choices, noise).share < 0.2


def test_intervals_have_the_expected_bounds() -> None:
    differences = {0: 1.0, 1: 3.0}
    # t(.975, 1) = 12.706, s / sqrt(2) = 1.
    assert covered(differences, [(0, 1)], None) == Coverage(1, 1)
    assert covered(differences, [(0, 1)], Noise(1.0, 1000.0)).within == 0
    assert covered(differences, [(0,)], None).within == 0, "one seed has no interval"
    assert math.isnan(Coverage(0, 0).share)


def test_the_fit_recovers_the_noise_of_simulated_differences() -> None:
    """Variances are drawn around 0.05² with 12 degrees of freedom, each estimated from 8 seeds."""
    rng = np.random.default_rng(3)
    deviations = 0.05 * np.sqrt(12.0 / rng.chisquare(12.0, 3000))
    found = fit_noise([estimate(list(rng.normal(0.1, deviation, 8))) for deviation in deviations])
    assert found is not None
    assert found.deviation == pytest.approx(0.05, rel=0.05)
    assert found.freedom == pytest.approx(12.0, rel=0.25)
    alike = fit_noise([estimate(list(rng.normal(0.0, 0.05, 8))) for _ in range(300)])
    assert alike is not None
    assert alike.freedom > 40
    assert fit_noise([estimate([0.1, 0.2]), Estimate(0.0, 0.0, 4), Estimate(0.1, None, 1)]) is None


def test_differences_are_paired_by_seed() -> None:
    table = {"grpo": {0: 1.0, 1: 5.0}, "better": {0: 1.5, 1: 5.7}, "elsewhere": {9: 3.0}}
    found = differences_from(table, "grpo")
    assert found.keys() == {"better"}
    assert found["better"].value == pytest.approx(0.6)
    assert t_value(found["better"]) == pytest.approx(6.0)
    assert math.isnan(t_value(Estimate(0.0, 0.0, 4)))
