"""The terms of the acquisition that both policies share, each in [0, 1]: quality, and difference from the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
# float32 halves the memory of pairwise comparisons and is exact enough.
Narrow = NDArray[np.float32]
Mask = NDArray[np.bool_]

# U_perf is 0 for this share of the lowest nodes, so that a diverged node does not compress the other values.
FLOOR_SHARE = 0.1
NEIGHBORS = 5
# If some nodes violate constraints: U_perf and α of the worst node that keeps them and of the best node that does not.
FEASIBLE_FROM = 0.25
INFEASIBLE_UP_TO = 0.2
# Compute distances to this many of the newest nodes, the ones that a node competes with.
COMPARED = 512


def scaled(values: Vector, low: float | None = None) -> Vector:
    """Values scaled to [0, 1] by their range; 0.5 if all are equal. `low` replaces the smallest value."""
    least = float(values.min()) if low is None else low
    span = float(values.max()) - least
    if span <= 1e-12 * max(abs(least), 1e-300):
        return np.full(len(values), 0.5)
    return np.clip((values - least) / span, 0.0, 1.0)


def performance_term(utilities: Vector, feasible: Mask | None = None) -> Vector:
    """U_perf: utilities scaled from their lowest decile to their largest.

    Nodes that violate a constraint rank below all that keep them (`feasible`; None: all do).
    """
    return _feasible_first(utilities, feasible, _by_decile)


def promise_term(promises: Vector, feasible: Mask | None = None) -> Vector:
    """α: promises scaled by their range; nodes that violate a constraint rank below the others, as in U_perf."""
    return _feasible_first(promises, feasible, scaled)


def _feasible_first(values: Vector, feasible: Mask | None, scale: Callable[[Vector], Vector]) -> Vector:
    """Scale each group on its own, in a range of its own."""
    if feasible is None or not feasible.any() or feasible.all():
        return scale(values)
    value = np.zeros(len(values))
    value[feasible] = FEASIBLE_FROM + (1.0 - FEASIBLE_FROM) * scale(values[feasible])
    value[~feasible] = INFEASIBLE_UP_TO * scale(values[~feasible])
    return value


def _by_decile(utilities: Vector) -> Vector:
    return scaled(utilities, float(np.quantile(utilities, FLOOR_SHARE)) if len(utilities) > NEIGHBORS else None)


def distances(mechanisms: Sequence[frozenset[str]], dynamics: Sequence[Sequence[float]]) -> Vector:
    """The mean distance of each node to its nearest others, in [0, 1] (n,).

    A distance is the mean of the mechanisms' Jaccard distance and of 1 - exp(-d²/2), with d the root mean square of the
    dynamics' differences in standard deviations. If dynamics are unknown, it is the Jaccard distance alone.
    """
    n = len(mechanisms)
    if n < 2:
        return np.ones(n)
    compared = np.arange(max(0, n - COMPARED), n)
    distance = _jaccard(mechanisms, compared)
    figures = _standard(dynamics)
    if figures is not None:
        lengths = (figures**2).sum(1)
        apart = figures @ figures[compared].T
        apart *= -2.0
        apart += lengths[:, None]
        apart += lengths[compared]
        np.maximum(apart, 0.0, out=apart)
        apart *= -0.5 / figures.shape[1]
        np.exp(apart, out=apart)
        distance += 1.0 - apart
        distance *= 0.5
    distance[compared, np.arange(len(compared))] = np.inf
    count = min(NEIGHBORS, len(compared) - 1)
    nearest = np.partition(distance, count - 1, axis=1)[:, :count]
    return np.asarray(nearest.mean(axis=1), dtype=np.float64)


def diversity_term(distance: Vector, children: Vector) -> Vector:
    """U_div: distance minus fatigue, 1 - 1/(1 + children), for a parent that already has children."""
    return scaled(scaled(distance) - (1.0 - 1.0 / (1.0 + children)))


def _jaccard(mechanisms: Sequence[frozenset[str]], compared: NDArray[np.int64]) -> Narrow:
    has = incidence(mechanisms)
    sizes = has.sum(1)
    distance = has @ has[compared].T
    union = sizes[:, None] + sizes[compared] - distance
    # Two empty sets are equal.
    distance /= np.maximum(union, 1.0, out=union)
    distance[np.ix_(sizes == 0, sizes[compared] == 0)] = 1.0
    return np.asarray(np.subtract(1.0, distance, out=distance))


def incidence(sets: Collection[frozenset[str]]) -> Narrow:
    """1 if a set (row) has a word (column), else 0; at least one column."""
    columns = {word: place for place, word in enumerate(sorted(frozenset().union(*sets)))}
    has = np.zeros((len(sets), max(len(columns), 1)), dtype=np.float32)
    rows = np.repeat(np.arange(len(sets)), [len(words) for words in sets])
    has[rows, [columns[word] for words in sets for word in words]] = 1.0
    return has


def _standard(dynamics: Sequence[Sequence[float]]) -> Narrow | None:
    """Columns in standard deviations, with missing values at the mean; None if all values are missing."""
    width = max((len(row) for row in dynamics), default=0)
    if width == 0:
        return None
    figures = np.full((len(dynamics), width), np.nan)
    for place, row in enumerate(dynamics):
        figures[place, : len(row)] = row
    figures[~np.isfinite(figures)] = np.nan
    known = np.isfinite(figures)
    counts = np.maximum(known.sum(0), 1)
    mean = np.where(known, figures, 0.0).sum(0) / counts
    centred = np.where(known, figures - mean, 0.0)
    spread = np.sqrt((centred**2).sum(0) / counts)
    return np.asarray(np.clip(centred / np.where(spread > 0, spread, 1.0), -4.0, 4.0), dtype=np.float32)
