"""The difference that a protocol can detect, as a function of seeds, from measured differences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from poise_git.archive.entries import Estimate
from poise_git.measurement.statistics import Noise, detectable_difference, pooled_deviation

SEEDS = (1, 2, 4, 8, 16)
# A deviation with n degrees of freedom has a relative standard error of about 1 / sqrt(2 n), here a quarter.
ENOUGH_FREEDOM = 8


class Source(StrEnum):
    """The source of the noise: this archive, or the benchmark that the protocol quotes."""

    ARCHIVE = "archive"
    PROTOCOL = "protocol"


@dataclass(frozen=True)
class Detectable:
    """The true difference in U that a comparison on `seeds` seeds detects beyond its 95% interval with 80% power.

    None for a single seed if the protocol does not state its noise.
    """

    seeds: int
    difference: float | None


@dataclass(frozen=True)
class Resolution:
    """The noise of a protocol and the differences that it can detect.

    Attributes:
        deviation: standard deviation of one candidate's difference from the root on one seed, in U.
        source: the source of `deviation`.
        comparisons: the number of candidates of this archive that measure its noise, even if it is not the source.
        own: the detectable difference with the protocol's number of seeds.
        relative: the difference of `own` as a share of the root's U, or None without a difference.
        by_seeds: the detectable difference for several numbers of seeds, in order, including `own`.
    """

    deviation: float
    source: Source
    comparisons: int
    own: Detectable
    relative: float | None
    by_seeds: tuple[Detectable, ...]

    def to_data(self) -> dict[str, Any]:
        return asdict(self)


def resolution(
    gains: Iterable[Estimate], root_utility: float | None, seeds: int, stated: Noise | None = None
) -> Resolution | None:
    """The differences that comparisons on `seeds` seeds can detect, from the noise of this archive's `gains` over the
    root.

    `stated` is the protocol's deviation of one seed. Intervals are built on it, and it is used here until the archive
    knows its own noise to within about a quarter. None if there is no measurement.
    """
    pooled = pooled_deviation(gains)
    if stated is not None and (pooled is None or pooled.freedom < ENOUGH_FREEDOM):
        deviation, source = stated.deviation, Source.PROTOCOL
    elif pooled is not None:
        deviation, source = pooled.value, Source.ARCHIVE
    else:
        return None
    by_seeds = tuple(
        Detectable(number, detectable_difference(deviation, number, stated)) for number in sorted({*SEEDS, seeds})
    )
    own = next(row for row in by_seeds if row.seeds == seeds)
    return Resolution(
        deviation=deviation,
        source=source,
        comparisons=pooled.comparisons if pooled else 0,
        own=own,
        relative=own.difference / root_utility if own.difference and root_utility else None,
        by_seeds=by_seeds,
    )
