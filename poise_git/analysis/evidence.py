"""The evidence table: the changes of all figures against the parent and the root, and whether they exceed noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from poise_git.archive.entries import Claim, Estimate, Violation
from poise_git.measurement.figures import UTILITY

# The check of claims about the results of training, not about code.
EFFECT = "effect"


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    WITHIN_NOISE = "within noise"


class Verdict(StrEnum):
    HELD = "held"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Difference:
    """One figure of a candidate against another candidate, paired by seed; its 95% interval decides `direction`."""

    figure: str
    against: str
    value: Estimate
    difference: Estimate
    direction: Direction


@dataclass(frozen=True)
class ClaimVerdict:
    claim: Claim
    verdict: Verdict
    because: str


@dataclass(frozen=True)
class Evidence:
    """All data that a reflection may use.

    `differences` cover the utility ("utility"), every metric of y, and the dynamics (means and last values of the
    trajectory's series: "entropy", "valid_rate", ...), first against the parent, then against the root if that is
    another candidate. `runs` is the number of paired seeds. `warnings` are conspicuous dynamics in words, `violations`
    the constraints of the objective that the candidate breaks.
    """

    candidate: str
    parent: str
    root: str
    protocol: str
    runs: int
    differences: tuple[Difference, ...]
    claims: tuple[ClaimVerdict, ...]
    warnings: tuple[str, ...]
    dynamics: Mapping[str, tuple[float, float]]
    violations: tuple[Violation, ...] = ()

    def against(self, name: str) -> tuple[Difference, ...]:
        return tuple(difference for difference in self.differences if difference.against == name)

    def utility_against(self, name: str) -> Difference | None:
        return next((entry for entry in self.against(name) if entry.figure == UTILITY), None)
