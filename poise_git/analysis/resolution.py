"""What difference a protocol can detect, from the differences this archive has measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from poise_git.archive.entries import Estimate
from poise_git.search.estimate import detectable_difference, false_positive_rate, pooled_deviation


@dataclass(frozen=True)
class Resolution:
    """The noise of a protocol and what follows from it.

    Attributes:
        deviation: of one candidate's difference from the root on one seed, in U, pooled over candidates.
        comparisons: how many candidates it is pooled over; they share the root's runs, so they are not independent.
        seeds: how many seeds a comparison has.
        detectable: the true difference in U that is found beyond two standard errors with 80% power.
        relative: the same as a share of the root's U; None where that is 0.
        false_positives: the share of null differences that are found beyond two standard errors.
    """

    deviation: float
    comparisons: int
    seeds: int
    detectable: float
    relative: float | None
    false_positives: float

    def to_data(self) -> dict[str, Any]:
        return asdict(self)


def resolution(gains: Iterable[Estimate], root_utility: float, seeds: int) -> Resolution | None:
    """None until some candidate differs from the root on two seeds or more."""
    pooled = pooled_deviation(gains)
    if pooled is None or seeds < 2:
        return None
    deviation, comparisons = pooled
    detectable = detectable_difference(deviation, seeds)
    relative = detectable / root_utility if root_utility else None
    return Resolution(deviation, comparisons, seeds, detectable, relative, false_positive_rate(seeds))
