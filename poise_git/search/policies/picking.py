"""Picking the parents of a round one after the other, so that they are not near copies of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from poise_git.search.policies.interface import Survey

Vector = NDArray[np.float64]


def pick_best(survey: Survey, taken: Sequence[int], scores: Vector) -> int:
    """The best score among nodes that are not taken, nor parent or child of one that is, while there is a choice."""
    order = np.argsort(-scores, kind="stable")
    free = [int(place) for place in order if place not in taken]
    unrelated = (place for place in free if not any(survey.related(place, other) for other in taken))
    return next(unrelated, free[0] if free else int(order[0]))


def pick_one_by_one(
    survey: Survey, count: int, taken: Sequence[int], scores: Callable[[Sequence[int]], Vector]
) -> list[int]:
    """`count` more places; `scores` says what every node is worth given the places that are taken."""
    chosen = list(taken)
    for _ in range(count):
        chosen.append(pick_best(survey, chosen, scores(chosen)))
    return chosen[len(taken) :]
