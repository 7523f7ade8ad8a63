"""Pick the parents of a round one after the other, so that they are not near copies of each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from poise_git.search.selection.interface import Survey

Vector = NDArray[np.float64]


def pick_best(scores: Vector, taken: Sequence[int]) -> int:
    """The place of the best score that is not taken; the best of all if every place is taken."""
    order = np.argsort(-scores, kind="stable")
    return int(next((place for place in order if place not in taken), order[0]))


def pick_unrelated(survey: Survey, scores: Vector, taken: Sequence[int]) -> int:
    """As `pick_best`, but skip parents and children of taken nodes while others are available."""
    order = [int(place) for place in np.argsort(-scores, kind="stable") if place not in taken]
    unrelated = (place for place in order if not any(survey.related(place, other) for other in taken))
    return next(unrelated, pick_best(scores, taken))
