"""How long a candidate is waited for: milliseconds a call in the long run, and some seconds beyond that in all."""

from __future__ import annotations

from dataclasses import dataclass

# An honest call takes milliseconds, and less than a tenth of this a megabyte.
_SECONDS_A_CALL = 0.25
_SECONDS_A_MEGABYTE = 1.0
_MEGABYTE = 1e6


@dataclass
class Patience:
    """Seconds that are left for a candidate's process: a call adds some, and waiting for its answer takes some away.

    So one call may take long, as the first one does and any one on a busy machine, and all of them together cannot.

    Attributes:
        most: seconds beyond those that calls bring; never more are saved up.
    """

    most: float
    left: float = 0.0

    def __post_init__(self) -> None:
        self.left = self.most

    def bring(self, size: int) -> None:
        """A call of `size` bytes begins."""
        self.left = min(self.left, self.most) + _SECONDS_A_CALL + _SECONDS_A_MEGABYTE * size / _MEGABYTE

    def spend(self, seconds: float) -> None:
        self.left -= seconds
