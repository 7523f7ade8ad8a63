"""What difference a protocol can detect, from the differences this archive has measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from poise_git.archive.entries import Estimate
from poise_git.search.estimate import detectable_difference, pooled_deviation


@dataclass(frozen=True)
class Resolution:
    """The noise of a protocol and what follows from it.

    Attributes:
        deviation: of one candidate's difference from the root on one seed, in U, pooled over candidates.
        freedom: the degrees of freedom of `deviation`.
        seeds: how many seeds a comparison has.
        detectable: the difference in U that is found with 80% power at the two-sided 5% level.
        relative: the same as a share of the root's U.
    """

    deviation: float
    freedom: int
    seeds: int
    detectable: float
    relative: float

    def to_data(self) -> dict[str, Any]:
        return asdict(self)


def resolution(gains: Iterable[Estimate], root_utility: float, seeds: int) -> Resolution | None:
    """None until some candidate and the root have two seeds in common."""
    pooled = pooled_deviation(gains)
    if pooled is None:
        return None
    deviation, freedom = pooled
    detectable = detectable_difference(deviation, freedom, seeds)
    relative = detectable / root_utility if root_utility else float("inf")
    return Resolution(deviation, freedom, seeds, detectable, relative)
