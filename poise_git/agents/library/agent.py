"""The library agent: no language model, only literature cards, the archive's evidence and a seed."""

from __future__ import annotations

from collections.abc import Sequence

from poise_git.agents.library import implement, propose, reflect, screen
from poise_git.analysis.evidence import Evidence
from poise_git.archive.entries import Direction, Proposal, Reflection
from poise_git.errors import CheckFailed
from poise_git.search.context import Context
from poise_git.search.screening import Opinion


class LibraryAgent:
    """Implements `poise_git.agents.interface.Agent`; deterministic, reads no files but its reflection template."""

    name: str = propose.AGENT

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        return propose.propose(context, directions, seed)

    def screen(self, context: Context, proposals: Sequence[Proposal]) -> tuple[Opinion, ...]:
        return tuple(screen.opinion(proposal, context) for proposal in proposals)

    def implement(self, proposal: Proposal, context: Context) -> str:
        return implement.implement(proposal, context)

    def repair(self, proposal: Proposal, source: str, failure: CheckFailed, context: Context) -> str | None:
        return implement.repair(source, failure, context.cards)

    def reflect(self, proposal: Proposal, evidence: Evidence) -> Reflection:
        return reflect.reflect(proposal, evidence)
