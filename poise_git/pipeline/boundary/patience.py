"""The time limit for a candidate: milliseconds per call in the long run, and a few seconds in reserve."""

from __future__ import annotations

from dataclasses import dataclass

# An honest call takes milliseconds, and less than a tenth of this per megabyte.
_SECONDS_A_CALL = 0.25
_SECONDS_A_MEGABYTE = 1.0
_MEGABYTE = 1e6


@dataclass
class Patience:
    """Seconds left for a candidate's process: each call adds some, and waiting for its answer uses them up.

    One call may therefore take long, such as the first one or any on a busy machine, but all of them together may not.
    `most` limits the reserve beyond the seconds that calls add.
    """

    most: float
    left: float = 0.0

    def __post_init__(self) -> None:
        self.left = self.most

    def bring(self, size: int) -> None:
        """Add the seconds for a call of `size` bytes that begins."""
        self.left = min(self.left, self.most) + _SECONDS_A_CALL + _SECONDS_A_MEGABYTE * size / _MEGABYTE

    def spend(self, seconds: float) -> None:
        self.left -= seconds
