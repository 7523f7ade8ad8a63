from __future__ import annotations

import numpy as np

from poise_git.search.pareto import front_ranks, pareto_term


def test_fronts_of_non_dominated_sorting() -> None:
    metrics = np.array([[1.0, 5.0], [5.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 5.0]])
    assert front_ranks(metrics, np.zeros_like(metrics)).tolist() == [0, 0, 1, 2, 0]


def test_a_difference_within_the_noise_puts_nobody_behind() -> None:
    metrics = np.array([[1.0, 1.0], [0.9, 0.9], [0.0, 0.0]])
    errors = np.full_like(metrics, 0.1)
    assert front_ranks(metrics, errors).tolist() == [0, 0, 1]


def test_the_less_crowded_of_a_front_is_worth_more_and_no_front_more_than_the_one_before() -> None:
    metrics = np.array([[0.0, 10.0], [1.0, 9.0], [1.1, 8.9], [1.2, 8.8], [10.0, 0.0], [-1.0, -1.0]])
    value, ranks = pareto_term(metrics, np.zeros_like(metrics), metrics.sum(1))
    assert ranks.tolist() == [0, 0, 0, 0, 0, 1]
    assert value[0] == value[4] == 1.0
    assert value[2] < value[1]
    assert value[5] <= 0.5 <= value[:5].min()


def test_of_many_nodes_those_that_are_not_sorted_stand_behind() -> None:
    generator = np.random.default_rng(0)
    metrics = generator.normal(size=(3000, 4))
    value, ranks = pareto_term(metrics, np.full_like(metrics, 0.1), metrics.sum(1))
    assert value[metrics.sum(1).argmax()] > 0.5
    assert ranks[metrics.sum(1).argmin()] == ranks.max()
