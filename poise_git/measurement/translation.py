"""What an agent makes of a directive: an objective and why, or why it makes nothing of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poise_git.measurement.objective import Objective
from poise_git.settings import ObjectiveSettings


@dataclass(frozen=True)
class Interpretation:
    """`objective` is None where nothing was understood.

    `reasons` say what led to what, `strange` are the words that were not understood, `known` what could have been said.
    """

    objective: ObjectiveSettings | None
    reasons: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        return {
            "objective": Objective({}, self.objective).to_data() if self.objective else None,
            "reasons": list(self.reasons),
            "not_understood": list(self.strange),
        }
