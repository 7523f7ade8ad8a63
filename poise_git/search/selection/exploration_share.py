"""Learn the exploration share, the share of parents that are not selected by score, from the archive.

On a deceptive landscape, stepping stones score below their parents. A model of scores cannot tell them from failures.
The archive gives two signs of deception. First, exploration is not needed while selection by score still raises the
best utility; it is needed once the best utility stalls. Second, on a deceptive landscape some children of nodes far
below the best of their lineage rise far above it; on other landscapes they never do. Hence

    share = least + (most - least) exp(-progress / STALLED) min(1, (1 + paid) / (1 + PAYING r detours))

`progress` is the rise of the best utility over the newest evaluations, in spreads of utility. `detours` counts the
children of nodes that had fallen, and `paid` those of them that rose. PAYING is the share of detours that succeed on a
deceptive landscape. r = spread² / (spread² + error²), because noisy measurements refute little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# Chosen on the tuning worlds of tests/benchmarks/search_efficiency.py.
LEAST, MOST = 0.2, 0.8
NEWEST = 12
STALLED = 0.15
PAYING = 0.1
# The thresholds for a fall and a rise, in spreads of utility.
FALLEN, RISEN = 0.4, 0.3
# With fewer nodes than this, the search cannot have stalled yet.
YOUNG = 6


@dataclass(frozen=True)
class ExplorationShare:
    """The share of exploration slots and its inputs; see the module."""

    share: float
    progress: float
    detours: int
    paid: int

    @property
    def statement(self) -> str:
        return (
            f"{self.share:.0%} of the slots are drawn at random: the newest evaluations raised the best by "
            f"{self.progress:.2f} spreads of utility, and {self.paid} of {self.detours} detours succeeded"
        )


def learn_exploration_share(parents: Sequence[int], utilities: Vector, spread: float, error: float) -> ExplorationShare:
    """The exploration share that the archive suggests.

    Args:
        parents: the place of each node's parent, -1 for none; parents stand before children.
        utilities: believed true utilities (n,), in the order of evaluation.
        spread: the standard deviation of true utilities.
        error: the standard deviation of a measurement.
    """
    above = np.array(parents)
    children = np.flatnonzero(above >= 0)
    lines = best_of_line(parents, utilities)[above[children]]
    fallen = lines - utilities[above[children]] > FALLEN * spread
    risen = utilities[children] - lines > RISEN * spread
    detours, paid = int(fallen.sum()), int((fallen & risen).sum())
    if len(utilities) < YOUNG:
        return ExplorationShare(LEAST, 0.0, detours, paid)
    best = np.maximum.accumulate(utilities)
    newest = min(NEWEST, len(best) - 2)
    progress = float(best[-1] - best[-1 - newest]) / spread * NEWEST / newest
    reliability = spread**2 / (spread**2 + error**2)
    paying = min(1.0, (1.0 + paid) / (1.0 + PAYING * reliability * detours))
    return ExplorationShare(
        LEAST + (MOST - LEAST) * float(np.exp(-progress / STALLED)) * paying, progress, detours, paid
    )


def best_of_line(parents: Sequence[int], utilities: Vector) -> Vector:
    """The best utility on the path from the root to each node, itself included (n,)."""
    found = utilities.copy()
    for place, parent in enumerate(parents):
        if parent >= 0:
            found[place] = max(found[place], found[parent])
    return found
