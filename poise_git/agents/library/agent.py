"""The library agent: it uses literature cards, the archive's evidence and a seed, but no language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from poise_git.agents.interface import CodeReview, Side
from poise_git.agents.library import Library, distill, implement, interpret, propose, reflect, screen
from poise_git.analysis.evidence import Evidence
from poise_git.analysis.lessons import Lesson
from poise_git.archive.entries import Call, Direction, Proposal, Reflection
from poise_git.errors import CheckFailed
from poise_git.measurement.translation import Interpretation
from poise_git.search.context.context import Context
from poise_git.search.proposals.screening import Opinion


class LibraryAgent:
    """Implements `poise_git.agents.interface.Agent`; deterministic, and reads only its reflection template."""

    name: str = Library.name
    calls: tuple[Call, ...] = ()

    def __init__(self) -> None:
        self._children = implement.Children()

    def interpret(self, directive: str, figures: Mapping[str, float]) -> Interpretation:
        return interpret.interpret(directive, figures)

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        return propose.propose(context, directions, seed, self._children)

    def screen(self, context: Context, proposals: Sequence[Proposal]) -> tuple[Opinion, ...]:
        return tuple(screen.opinion(proposal, context, self._children) for proposal in proposals)

    def implement(self, proposal: Proposal, context: Context) -> str:
        return implement.implement(proposal, context, self._children)

    def repair(self, proposal: Proposal, source: str, failure: CheckFailed, context: Context) -> str | None:
        return implement.repair(source, failure, context.cards)

    def resolve(self, proposal: Proposal, ours: Side, theirs: Side, source: str) -> str:
        raise CheckFailed(
            "implement",
            f"{ours.name} and {theirs.name} change the same lines; "
            "merge them by hand (git merge), or with --agent anthropic",
        )

    def verify(self, proposal: Proposal, source: str, change: str) -> CodeReview:
        """Approve the code: cards consist of verified edits, so a review adds nothing to the checks."""
        return CodeReview(True, "", ())

    def reflect(self, proposal: Proposal, evidence: Evidence, change: str) -> Reflection:
        return reflect.reflect(proposal, evidence)

    def distill(self, lessons: Sequence[Lesson], earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return distill.distill(lessons)
