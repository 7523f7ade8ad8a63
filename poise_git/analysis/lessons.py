"""The lesson of a trained candidate, the input for distilling principles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poise_git.archive.entries import Estimate, Proposal, Reflection
from poise_git.archive.facts import ReflectionFacts


@dataclass(frozen=True)
class Lesson:
    """One candidate against its parent; `effect` is the difference in utility, paired by seed.

    `operation` is the library agent's name for the change, "" for changes by others.
    """

    candidate: str
    parent: str
    mechanism: str
    priors: tuple[str, ...]
    operation: str
    effect: Estimate | None
    verdict: str
    diagnosis: str

    @classmethod
    def of(cls, proposal: Proposal, reflection: Reflection) -> Lesson:
        """The lesson from the archive."""
        facts = reflection.facts
        return cls(
            candidate=proposal.name,
            parent=proposal.parent,
            mechanism=proposal.mechanism,
            priors=proposal.priors,
            operation=str(proposal.plan.get("operation", "")),
            effect=_effect(facts),
            verdict=facts.verdict,
            diagnosis=reflection.prose,
        )

    def to_data(self) -> dict[str, Any]:
        return {
            "candidate": self.candidate,
            "parent": self.parent,
            "mechanism": self.mechanism,
            "utility against the parent": self.effect and self.effect.to_data(),
            "verdict": self.verdict,
            "diagnosis": self.diagnosis,
        }


def _effect(facts: ReflectionFacts) -> Estimate | None:
    found = facts.utility_change
    return Estimate(found.difference, found.se, facts.seeds) if found and facts.seeds is not None else None
