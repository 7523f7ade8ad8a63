"""Non-dominated sorting of noisy metric vectors; larger is better in every metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Sort fronts among this many nodes: those with the best utility and the best of each metric. Others rank behind them.
SORTED = 1000
# A difference of more than this many standard errors is more than noise.
BEYOND_NOISE = 1.96


def pareto_term(metrics: Vector, errors: Vector, utilities: Vector, feasible: Mask) -> tuple[Vector, Vector]:
    """U_pareto in [0, 1] and the rank of each node's front, 0 the best; (n,) each.

    Rank r is worth 1 / (1 + r) for the least crowded node of its front, down to 1 / (2 + r) for the most crowded one
    (crowding distance, Deb et al. 2002, doi:10.1109/4235.996017).

    Args:
        metrics, errors: (n, m), errors are standard errors.
        utilities: (n,), which choose the nodes whose fronts are sorted if there are many nodes.
        feasible: (n,), whether each node keeps the constraints.
    """
    n, width = metrics.shape
    candidates = np.arange(n)
    if n > SORTED:
        leading = [np.lexsort((-utilities, ~feasible))[: SORTED // 2]]
        leading += [np.lexsort((-metrics[:, column], ~feasible))[: SORTED // (2 * width)] for column in range(width)]
        candidates = np.unique(np.concatenate(leading))
    sorted_ranks = front_ranks(metrics[candidates], errors[candidates], feasible[candidates])
    ranks = np.full(n, float(sorted_ranks.max() + 1))
    ranks[candidates] = sorted_ranks
    value = 1.0 / (2.0 + ranks)
    for rank in range(int(sorted_ranks.max()) + 1):
        front = candidates[sorted_ranks == rank]
        best, worst = 1.0 / (1.0 + rank), 1.0 / (2.0 + rank)
        value[front] = worst + (best - worst) * _sparsity(metrics[front])
    return value, ranks


def front_ranks(metrics: Vector, errors: Vector, feasible: Mask) -> NDArray[np.int64]:
    """The front of each node (n,): 0 for nodes that no node dominates, 1 for those that only front 0 dominates, etc.

    A node dominates another if it is nowhere worse, and somewhere better by more than noise. A difference that may be
    noise therefore does not lower a node's rank. A node that keeps the constraints dominates every node that does not
    (Deb et al. 2002, section VI). Nodes that violate constraints are compared by their metrics, because violations have
    no common unit.
    """
    n, width = metrics.shape
    no_worse = np.ones((n, n), dtype=bool)
    better = np.zeros((n, n), dtype=bool)
    for column in range(width):
        difference = metrics[:, None, column] - metrics[None, :, column]
        noise = BEYOND_NOISE * np.hypot(errors[:, None, column], errors[None, :, column])
        no_worse &= difference >= 0
        better |= difference > noise
    dominates = np.where(feasible[:, None] == feasible[None], no_worse & better, feasible[:, None])
    ranks = np.zeros(n, dtype=np.int64)
    left = np.ones(n, dtype=bool)
    rank = 0
    while left.any():
        front = left & ~dominates[left].any(axis=0)
        ranks[front] = rank
        left &= ~front
        rank += 1
    return ranks


def _sparsity(metrics: Vector) -> Vector:
    """Crowding distance scaled to [0, 1]; 1 for nodes at an end of a metric."""
    n, width = metrics.shape
    distance = np.zeros(n)
    for column in range(width):
        order = np.argsort(metrics[:, column], kind="stable")
        values = metrics[order, column]
        span = values[-1] - values[0]
        if span > 0:
            distance[order[1:-1]] += (values[2:] - values[:-2]) / span
            distance[order[[0, -1]]] = np.inf
    finite = distance[np.isfinite(distance)]
    largest = finite.max() if len(finite) and finite.max() > 0 else 1.0
    return np.where(np.isfinite(distance), 0.9 * distance / largest, 1.0)
