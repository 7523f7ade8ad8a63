from __future__ import annotations

import math
import random

import pytest
from resolution_statistics import (
    Components,
    Coverage,
    balanced_choices,
    balanced_splits,
    closest_half,
    covered_by_own_interval,
    covered_by_pooled_interval,
    detectable,
    differences_from,
    means,
    rank_correlation,
    ranks,
    split_correlation,
    t_value,
    variance_components,
)

from poise_git.archive.entries import Estimate
from poise_git.search.estimate import PooledDeviation


def deviation(value: float, freedom: int) -> PooledDeviation:
    return PooledDeviation(value, comparisons=1, freedom=freedom)


def test_a_choice_holds_every_world_once() -> None:
    choices = balanced_choices(range(1000, 1008), 4)
    assert len(set(choices)) == 16
    assert all(sorted(seed % 4 for seed in choice) == [0, 1, 2, 3] for choice in choices)
    assert balanced_choices([0, 1, 4], 4) == []


def test_the_halves_of_a_split_share_no_seed() -> None:
    splits = balanced_splits(range(1000, 1008), 4)
    assert len(splits) == 8
    assert all(sorted((*left, *right)) == list(range(1000, 1008)) for left, right in splits)
    assert balanced_splits(range(4), 4) == []


def test_rank_correlation_is_spearmans() -> None:
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


def test_variance_components_recover_what_made_the_table() -> None:
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


def test_algorithms_that_are_all_alike_have_no_variance_between_them() -> None:
    alternating = {"a": {0: 1.0, 1: 0.0}, "b": {0: 0.0, 1: 1.0}}
    assert variance_components(alternating, [0, 1]).algorithms == 0.0
    assert math.isnan(Components(0.0, 0.0).reliability(4))


def test_intervals_hold_a_difference_of_nothing_as_often_as_they_state() -> None:
    rng = random.Random(2)
    seeds = range(4 * 3000)
    noise = {seed: rng.gauss(0.0, 0.05) for seed in seeds}
    choices = [tuple(range(first, first + 4)) for first in seeds[::4]]
    assert covered_by_own_interval(noise, choices).share == pytest.approx(0.95, abs=0.015)
    pooled_share = covered_by_pooled_interval(noise, choices, deviation(0.05, 200)).share
    assert pooled_share == pytest.approx(0.95, abs=0.015)
    biased = {seed: value + 0.2 for seed, value in noise.items()}
    assert covered_by_own_interval(biased, choices).share < 0.2
    assert covered_by_pooled_interval(biased, choices, deviation(0.05, 200)).share == 0.0


def test_the_edges_of_the_intervals() -> None:
    differences = {0: 1.0, 1: 3.0}
    # t(.975, 1) = 12.706, s / sqrt(2) = 1.
    assert covered_by_own_interval(differences, [(0, 1)]) == Coverage(1, 1)
    assert covered_by_pooled_interval(differences, [(0, 1)], deviation(1.0, 1)).within == 1
    assert covered_by_pooled_interval(differences, [(0, 1)], deviation(1.0, 1000)).within == 0
    assert math.isnan(Coverage(0, 0).share)


def test_a_detectable_difference_is_detected_with_its_power() -> None:
    # Known deviation: (z(.975) + z(.8)) σ / sqrt(n).
    assert detectable(deviation(1.0, 100_000), 4) == pytest.approx((1.95996 + 0.84162) / 2, rel=1e-3)
    assert detectable(deviation(1.0, 6), 1) > detectable(deviation(1.0, 60), 1)
    assert detectable(deviation(0.02, 30), 1) == pytest.approx(4 * detectable(deviation(0.02, 30), 16))


def test_differences_are_paired_by_seed() -> None:
    table = {"grpo": {0: 1.0, 1: 5.0}, "better": {0: 1.5, 1: 5.7}, "elsewhere": {9: 3.0}}
    found = differences_from(table, "grpo")
    assert found.keys() == {"better"}
    assert found["better"].value == pytest.approx(0.6)
    assert t_value(found["better"]) == pytest.approx(6.0)
    assert math.isnan(t_value(Estimate(0.0, 0.0, 4)))
