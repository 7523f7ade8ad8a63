from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poise_git.search.selection.pareto import front_ranks, pareto_term


def everybody(metrics: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.ones(len(metrics), dtype=bool)


def test_nodes_are_sorted_into_non_dominated_fronts() -> None:
    metrics = np.array([[1.0, 5.0], [5.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 5.0]])
    assert front_ranks(metrics, np.zeros_like(metrics), everybody(metrics)).tolist() == [0, 0, 1, 2, 0]


def test_a_difference_within_noise_does_not_dominate() -> None:
    metrics = np.array([[1.0, 1.0], [0.9, 0.9], [0.0, 0.0]])
    errors = np.full_like(metrics, 0.1)
    assert front_ranks(metrics, errors, everybody(metrics)).tolist() == [0, 0, 1]


def test_less_crowded_nodes_are_worth_more_and_earlier_fronts_more_than_later_ones() -> None:
    metrics = np.array([[0.0, 10.0], [1.0, 9.0], [1.1, 8.9], [1.2, 8.8], [10.0, 0.0], [-1.0, -1.0]])
    value, ranks = pareto_term(metrics, np.zeros_like(metrics), metrics.sum(1), everybody(metrics))
    assert ranks.tolist() == [0, 0, 0, 0, 0, 1]
    assert value[0] == value[4] == 1.0
    assert value[2] < value[1]
    assert value[5] <= 0.5 <= value[:5].min()


def test_nodes_that_keep_the_constraints_dominate_those_that_do_not() -> None:
    metrics = np.array([[9.0, 9.0], [1.0, 1.0], [8.0, 8.0], [0.0, 2.0]])
    feasible = np.array([False, True, False, True])
    errors = np.zeros_like(metrics)
    assert front_ranks(metrics, errors, feasible).tolist() == [1, 0, 2, 0]
    value, _ = pareto_term(metrics, errors, metrics.sum(1), feasible)
    assert value[[1, 3]].min() >= value[[0, 2]].max()


def test_a_large_archive_sorts_first_the_nodes_that_keep_the_constraints() -> None:
    metrics = np.random.default_rng(0).normal(size=(3000, 4))
    feasible = np.arange(3000) % 100 == 0
    _, ranks = pareto_term(metrics, np.full_like(metrics, 0.1), metrics.sum(1), feasible)
    assert ranks[feasible].max() < ranks[~feasible].min()


def test_a_large_archive_ranks_unsorted_nodes_last() -> None:
    generator = np.random.default_rng(0)
    metrics = generator.normal(size=(3000, 4))
    value, ranks = pareto_term(metrics, np.full_like(metrics, 0.1), metrics.sum(1), everybody(metrics))
    assert value[metrics.sum(1).argmax()] > 0.5
    assert ranks[metrics.sum(1).argmin()] == ranks.max()
