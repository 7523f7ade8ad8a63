"""Descendant potential: what a node's descendants gained, and a Gaussian process that predicts it for the others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence


def descendant_gain(
    utility: Mapping[str, float],
    parents: Mapping[str, Sequence[str]],
    *,
    gamma: float,
    beta: float,
    top: int,
) -> dict[str, float]:
    """y_d = mean over the top-K descendants c of gamma^depth(c, d) * tanh((U(c) - U(d)) / beta).

    The top K are ranked by the discounted gain itself. A node without descendants has no label: undefined, not 0.
    """
    gains: dict[str, list[float]] = {}
    for name in utility:
        for ancestor, distance in _ancestors(name, parents).items():
            if ancestor in utility:
                gain = gamma**distance * math.tanh((utility[name] - utility[ancestor]) / beta)
                gains.setdefault(ancestor, []).append(gain)
    return {name: math.fsum(best) / len(best) for name, of in gains.items() if (best := sorted(of)[-top:])}


def upper_confidence(
    features: Mapping[str, Sequence[float]], labels: Mapping[str, float], *, kappa: float
) -> dict[str, float]:
    """mu(d) + kappa * sigma(d) of a Gaussian process (Matérn 5/2 plus noise) fitted to the labelled nodes."""
    # Imported when they are needed: most verbs never select.
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    names = list(features)
    matrix = np.array([features[name] for name in names], dtype=float)
    spread = matrix.std(axis=0)
    matrix = (matrix - matrix.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    rows = [names.index(name) for name in labels]
    kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(
        length_scale=math.sqrt(matrix.shape[1]), length_scale_bounds=(0.5, 20.0), nu=2.5
    ) + WhiteKernel(0.3, (0.05, 2.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        # A hyper-parameter at its bound is expected with a handful of labels.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(matrix[rows], np.array([labels[name] for name in labels]))
    mean, deviation = process.predict(matrix, return_std=True)
    return {name: float(mean[row] + kappa * deviation[row]) for row, name in enumerate(names)}


def _ancestors(name: str, parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Every ancestor with the length of the shortest path to it."""
    distance: dict[str, int] = {}
    frontier, steps = [name], 0
    while frontier:
        steps += 1
        further = [parent for node in frontier for parent in parents.get(node, ())]
        frontier = [parent for parent in further if distance.setdefault(parent, steps) == steps]
    return distance
