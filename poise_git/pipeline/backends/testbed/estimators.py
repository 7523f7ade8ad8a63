"""Which figure of a run stands for it."""

from __future__ import annotations

from collections.abc import Sequence


def estimate(estimator: str, curve: Sequence[float]) -> float:
    """One number from a learning curve, whose first point is before any training.

    `learning-curve-area` is the mean over the points after the first, `final` the last one.
    """
    return curve[-1] if estimator == "final" else sum(curve[1:]) / (len(curve) - 1)
