"""How well a model of potential predicts held-out lineages; reported with every selection."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from poise_git.search.selection.interface import ModelSkill

Vector = NDArray[np.float64]

# With fewer labeled nodes than this, a correlation is meaningless.
ENOUGH = 6


def rank_correlation(predicted: Vector, observed: Vector, lineages: int) -> ModelSkill:
    """Spearman's correlation of predicted and realized potential (n,) with Fisher's 95% interval, in words."""
    from scipy.stats import spearmanr

    labeled = len(observed)
    if labeled < ENOUGH or lineages < 2:
        return ModelSkill(
            None, lineages, labeled,
            f"its skill is unknown: only {labeled} candidates with descendants, in {lineages} lineages",
        )  # fmt: skip
    if np.ptp(predicted) == 0 or np.ptp(observed) == 0:
        return ModelSkill(None, lineages, labeled, "its skill is unknown: all potentials are equal")
    correlation = float(spearmanr(predicted, observed).statistic)
    reach = 1.96 / math.sqrt(labeled - 3)
    low, high = (math.tanh(math.atanh(min(max(correlation, -0.999), 0.999)) + side * reach) for side in (-1, 1))
    words = f"rank correlation {correlation:+.2f} ({low:+.2f} to {high:+.2f}) over {labeled} candidates"
    verdict = "not better than chance, so do not rely on bayes" if low <= 0 else "predicts held-out lineages"
    return ModelSkill(
        correlation, lineages, labeled, f"{verdict}; {words} in {lineages} lineages, each held out in turn"
    )
