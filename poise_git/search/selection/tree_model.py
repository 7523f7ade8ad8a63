"""A joint Gaussian model of all utilities of a genealogy: the true utility of every node and of its next child.

    U_i = u_i + ε_i                    measured utility: the true utility plus noise of known standard error
    u_c = u_p + m + a_p + η_c          a child: its parent, the mean gain, the gain of this lineage, and a residual
    a_c = ρ a_p + ξ_c                  the gain of a lineage is inherited: cov(a_i, a_j) = τ² ρ^(steps from i to j)
    m ~ N(m_0, s_m²)                   the mean gain of all children

The target, E[u_d + m + a_d], is therefore absolute: a gain over a node's own noisy score would reward nodes with
unlucky measurements. The covariance of `a` is exp(-distance / ℓ) with ρ = exp(-1 / ℓ), which is Markov on a tree. Two
passes over the tree therefore give the exact posterior of all nodes in O(n) (Pearl 1988; Rauch, Tung and Striebel 1965,
on a tree instead of a chain). The variance of η is averaged over a grid by marginal likelihood. All scales come from
the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]

# The correlation of a lineage's gain from parent to child: exp(-1/2).
RHO = float(np.exp(-0.5))
# Shares of the standard deviation s of the true utilities, or of its square.
ROOT_VARIANCE = 4.0
MEAN_GAIN = -0.2
MEAN_GAIN_DEVIATION = 0.6
INHERITED_SHARE = 0.5
LUCK_VARIANCES = (0.2, 0.6, 1.5)
# The variance of true utilities is at least this share of the variance of the measured ones.
SIGNAL_FLOOR = 0.1
# Errors are at least this share of the standard deviation of true utilities; no utility is known exactly.
LEAST_NOISE = 1e-3
# Utilities further below the lower quartile than this many interquartile ranges are cut to that distance: how badly a
# diverged candidate did carries no information about the rest.
OUTLIER_RANGES = 3.0

_U, _A, _M = range(3)
_CHILD = np.array([1.0, 1.0, 1.0])
_FORWARD = np.array([[1.0, 1.0, 1.0], [0.0, RHO, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Tree:
    """Measured nodes; parents[i] is the place of i's parent, -1 for a root, and precedes i.

    utilities, errors: (n,) in units of U; an error is a standard error, >= 0.
    """

    parents: NDArray[np.int64]
    utilities: Vector
    errors: Vector

    @cached_property
    def levels(self) -> tuple[NDArray[np.int64], ...]:
        """The places of the nodes of each depth, roots first."""
        depth = np.zeros(len(self.parents), dtype=np.int64)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                depth[place] = depth[parent] + 1
        order = np.argsort(depth, kind="stable")
        return tuple(np.split(order, np.flatnonzero(np.diff(depth[order])) + 1))


@dataclass(frozen=True)
class Posterior:
    """The posterior of the model, in units of U, (n,) each.

    utility, utility_deviation: u_d; child, child_deviation: the expected utility of d's next child, u_d + m + a_d;
    predicted: the same, predicted without d's descendants;
    scale: the standard deviation of true utilities.
    """

    utility: Vector
    utility_deviation: Vector
    child: Vector
    child_deviation: Vector
    predicted: Vector
    scale: float


@dataclass(frozen=True)
class TreeModel:
    """The model fitted to a tree."""

    tree: Tree

    @cached_property
    def posterior(self) -> Posterior:
        _, center, scale = self._standardized
        fit, weights = self._fit, self._weights
        utility, utility_variance = _mixed(weights, fit.utility, fit.utility_variance)
        child, child_variance = _mixed(weights, fit.child, fit.child_variance)
        return Posterior(
            utility=center + scale * utility,
            utility_deviation=scale * np.sqrt(utility_variance),
            child=center + scale * child,
            child_deviation=scale * np.sqrt(child_variance),
            predicted=center + scale * (fit.predicted @ weights),
            scale=scale,
        )

    def child_deviation(self, expected: Sequence[int]) -> Vector:
        """`Posterior.child_deviation` after one more child of each place in `expected` is measured, with any result."""
        _, precision, scale = self._measured
        upward = _with_children(self.tree, self._fit.upward, float(np.median(precision)), expected)
        narrowed = _child_variance(_covariances(self.tree, upward))
        return np.asarray(scale * np.sqrt(_mixed(self._weights, self._fit.child, narrowed)[1]))

    @cached_property
    def _fit(self) -> _Fit:
        value, precision, _ = self._measured
        return _smooth(self.tree, value, precision)

    @cached_property
    def _weights(self) -> Vector:
        weights = np.exp(self._fit.evidence - self._fit.evidence.max())
        return np.asarray(weights / weights.sum())

    @cached_property
    def _measured(self) -> tuple[Vector, Vector, float]:
        """Standardized utilities, the precisions of their measurement, and the scale."""
        values, center, scale = self._standardized
        return (values - center) / scale, 1.0 / np.maximum(self.tree.errors / scale, LEAST_NOISE) ** 2, scale

    @cached_property
    def _standardized(self) -> tuple[Vector, float, float]:
        """Utilities without outliers, the root's utility, and the standard deviation of true utilities."""
        values = self.tree.utilities
        low, high = np.quantile(values, [0.25, 0.75])
        clipped = np.maximum(values, low - OUTLIER_RANGES * max(high - low, float(np.median(self.tree.errors))))
        variance = float(clipped.var())
        signal = max(variance - float(np.mean(self.tree.errors**2)), SIGNAL_FLOOR * variance)
        # If all nodes are equal, only their noise is known.
        scale = float(np.sqrt(signal)) or float(np.median(self.tree.errors)) or 1.0
        return clipped, float(clipped[0]), scale


@dataclass(frozen=True)
class _Fit:
    """Log evidence (L,), up to a constant, and moments of every node (n, L), for L residual variances, standardized."""

    evidence: Vector
    utility: Vector
    utility_variance: Vector
    child: Vector
    child_variance: Vector
    predicted: Vector
    upward: _Upward


@dataclass(frozen=True)
class _Upward:
    """The information from each node's subtree (n, L, 3, 3), and the messages to its parent."""

    spread: Vector
    prior: Vector
    information: Vector
    gain: Vector
    rest: Vector
    inverse: Vector


def _upward(tree: Tree, precision: Vector) -> _Upward:
    """The first pass for variances, level by level, for all `LUCK_VARIANCES` at once."""
    n, levels, parents, width = len(precision), tree.levels, tree.parents, len(LUCK_VARIANCES)
    spread, prior = np.zeros((width, 3, 3)), np.zeros((width, 3, 3))
    for place, luck in enumerate(LUCK_VARIANCES):
        inherited = luck * INHERITED_SHARE
        spread[place] = np.diag([luck, (1.0 - RHO**2) * inherited, 0.0])
        prior[place] = np.diag([ROOT_VARIANCE, inherited, MEAN_GAIN_DEVIATION**2])
    information = np.zeros((n, width, 3, 3))
    information[:, :, _U, _U] = precision[:, None]
    gain, rest, inverse = (np.empty((n, width, 3, 3)) for _ in range(3))
    for level in reversed(levels[1:]):
        inverse[level], gain[level], rest[level], handed_on = _hand_on(information[level], spread)
        np.add.at(information, parents[level], handed_on)
    return _Upward(spread, prior, information, gain, rest, inverse)


def _hand_on(information: Vector, spread: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    """`inverse`, `gain` and `rest` of nodes with this information, and their messages to their parents."""
    inverse: Vector = np.asarray(np.linalg.inv(np.eye(3) + spread @ information), dtype=np.float64)
    gain = inverse @ _FORWARD
    return inverse, gain, inverse @ spread, _FORWARD.T @ information @ gain


def _with_children(tree: Tree, upward: _Upward, precision: float, expected: Sequence[int]) -> _Upward:
    """The first pass as if each place in `expected` had one more child, of this precision, per occurrence.

    Such children reduce variances and leave means unchanged. Only the places and their ancestors change.
    """
    measured = np.diag([precision, 0.0, 0.0])
    *_, handed_on = _hand_on(measured, upward.spread)
    information, gain, rest, inverse = (
        each.copy() for each in (upward.information, upward.gain, upward.rest, upward.inverse)
    )
    for place in expected:
        more = handed_on
        while place >= 0:
            *_, before = _hand_on(information[place], upward.spread)
            information[place] += more
            inverse[place], gain[place], rest[place], after = _hand_on(information[place], upward.spread)
            more, place = after - before, int(tree.parents[place])
    return replace(upward, information=information, gain=gain, rest=rest, inverse=inverse)


def _covariances(tree: Tree, upward: _Upward) -> Vector:
    """The second pass for variances: the posterior covariance of every node (n, L, 3, 3)."""
    roots, *below = tree.levels
    covariance = np.empty_like(upward.information)
    covariance[roots] = np.linalg.inv(np.linalg.inv(upward.prior) + upward.information[roots])
    for level in below:
        gain = upward.gain[level]
        covariance[level] = gain @ covariance[tree.parents[level]] @ gain.swapaxes(-1, -2) + upward.rest[level]
    return covariance


def _child_variance(covariance: Vector) -> Vector:
    return np.asarray(covariance @ _CHILD @ _CHILD)


def _smooth(tree: Tree, value: Vector, precision: Vector) -> _Fit:
    """Both passes over the tree, for means and the evidence too."""
    n, parents, width = len(value), tree.parents, len(LUCK_VARIANCES)
    roots, *below = tree.levels
    upward = _upward(tree, precision)
    covariance = _covariances(tree, upward)
    gain, rest = upward.gain, upward.rest
    vector = np.zeros((n, width, 3))
    vector[:, :, _U] = (precision * value)[:, None]
    evidence = np.full(width, 0.5 * float((np.log(precision) - precision * value**2).sum()))
    for level in reversed(below):
        own = vector[level]
        np.add.at(vector, parents[level], _times(own, gain[level]))
        evidence += 0.5 * np.einsum("nli,nlij,nlj->l", own, rest[level], own)
        evidence += 0.5 * np.linalg.slogdet(upward.inverse[level])[1].sum(0)
    before, prior_mean = np.linalg.inv(upward.prior), np.array([0.0, 0.0, MEAN_GAIN])
    mean = np.empty((n, width, 3))
    total = before @ prior_mean + vector[roots]
    mean[roots] = _times(covariance[roots], total)
    evidence += 0.5 * np.einsum("nli,nli->l", mean[roots], total) + 0.5 * np.linalg.slogdet(covariance[roots])[1].sum(0)
    evidence -= 0.5 * len(roots) * (before @ prior_mean @ prior_mean + np.linalg.slogdet(upward.prior)[1])
    for level in below:
        mean[level] = _times(gain[level], mean[parents[level]]) + _times(rest[level], vector[level])
    # The prediction without its descendants is a node's posterior divided by their information.
    believed: Vector = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    remaining = believed - upward.information
    remaining[:, :, _U, _U] += precision[:, None]
    remaining_vector = _times(believed, mean) - vector
    remaining_vector[:, :, _U] += (precision * value)[:, None]
    return _Fit(
        evidence=evidence,
        utility=mean[:, :, _U],
        utility_variance=covariance[:, :, _U, _U],
        child=mean @ _CHILD,
        child_variance=_child_variance(covariance),
        predicted=np.linalg.solve(remaining, remaining_vector[..., None])[..., 0] @ _CHILD,
        upward=upward,
    )


def _times(left: Vector, right: Vector) -> Vector:
    """The products of vectors (..., 3) and matrices (..., 3, 3), in either order."""
    if left.ndim < right.ndim:
        return np.asarray((left[..., None, :] @ right)[..., 0, :])
    return np.asarray((left @ right[..., None])[..., 0])


def _mixed(weights: Vector, mean: Vector, variance: Vector) -> tuple[Vector, Vector]:
    """Mean and variance (n,) of mixtures whose components have these, (n, L) each."""
    mixed = mean @ weights
    return np.asarray(mixed), np.asarray(np.maximum((mean**2 + variance) @ weights - mixed**2, 1e-12))


def tree_of(parents: Sequence[int], utilities: ArrayLike, errors: ArrayLike) -> Tree:
    return Tree(
        np.array(parents, dtype=np.int64), np.array(utilities, dtype=np.float64), np.array(errors, dtype=np.float64)
    )
