"""An agent's translation of a directive: an objective with reasons, or the reasons why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poise_git.settings import ObjectiveSettings


@dataclass(frozen=True)
class Interpretation:
    """A translation; `objective` is None if the agent did not understand the directive.

    `reasons` say which words led to which part. `strange` holds the words that the agent did not understand, `known`
    the words that it knows.
    """

    objective: ObjectiveSettings | None
    reasons: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        return {
            "objective": self.objective.to_data() if self.objective else None,
            "reasons": list(self.reasons),
            "not_understood": list(self.strange),
        }
