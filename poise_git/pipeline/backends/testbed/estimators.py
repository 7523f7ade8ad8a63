"""Estimators: the figure that represents a run."""

from __future__ import annotations

from collections.abc import Sequence


def estimate(estimator: str, curve: Sequence[float]) -> float:
    """Reduce a learning curve to one number; its first point is before any training.

    `learning-curve-area` is the mean over the points after the first. `final` is the last point.
    """
    return curve[-1] if estimator == "final" else sum(curve[1:]) / (len(curve) - 1)
