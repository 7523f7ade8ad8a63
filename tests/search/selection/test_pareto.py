from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poise_git.search.selection.pareto import front_ranks, pareto_term


def everybody(metrics: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.ones(len(metrics), dtype=bool)


def test_fronts_of_non_dominated_sorting() -> None:
    metrics = np.array([[1.0, 5.0], [5.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 5.0]])
    assert front_ranks(metrics, np.zeros_like(metrics), everybody(metrics)).tolist() == [0, 0, 1, 2, 0]


def test_a_difference_within_the_noise_puts_nobody_behind() -> None:
    metrics = np.array([[1.0, 1.0], [0.9, 0.9], [0.0, 0.0]])
    errors = np.full_like(metrics, 0.1)
    assert front_ranks(metrics, errors, everybody(metrics)).tolist() == [0, 0, 1]


def test_the_less_crowded_of_a_front_is_worth_more_and_no_front_more_than_the_one_before() -> None:
    metrics = np.array([[0.0, 10.0], [1.0, 9.0], [1.1, 8.9], [1.2, 8.8], [10.0, 0.0], [-1.0, -1.0]])
    value, ranks = pareto_term(metrics, np.zeros_like(metrics), metrics.sum(1), everybody(metrics))
    assert ranks.tolist() == [0, 0, 0, 0, 0, 1]
    assert value[0] == value[4] == 1.0
    assert value[2] < value[1]
    assert value[5] <= 0.5 <= value[:5].min()


def test_whoever_keeps_the_constraints_dominates_whoever_does_not() -> None:
    metrics = np.array([[9.0, 9.0], [1.0, 1.0], [8.0, 8.0], [0.0, 2.0]])
    feasible = np.array([False, True, False, True])
    errors = np.zeros_like(metrics)
    assert front_ranks(metrics, errors, feasible).tolist() == [1, 0, 2, 0]
    value, _ = pareto_term(metrics, errors, metrics.sum(1), feasible)
    assert value[[1, 3]].min() >= value[[0, 2]].max()


def test_of_many_nodes_those_that_keep_the_constraints_are_sorted_first() -> None:
    metrics = np.random.default_rng(0).normal(size=(3000, 4))
    feasible = np.arange(3000) % 100 == 0
    _, ranks = pareto_term(metrics, np.full_like(metrics, 0.1), metrics.sum(1), feasible)
    assert ranks[feasible].max() < ranks[~feasible].min()


def test_of_many_nodes_those_that_are_not_sorted_stand_behind() -> None:
    generator = np.random.default_rng(0)
    metrics = generator.normal(size=(3000, 4))
    value, ranks = pareto_term(metrics, np.full_like(metrics, 0.1), metrics.sum(1), everybody(metrics))
    assert value[metrics.sum(1).argmax()] > 0.5
    assert ranks[metrics.sum(1).argmin()] == ranks.max()
