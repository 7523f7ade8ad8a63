"""The anthropic agent: every operator is a prompt, a typed answer, and code that checks the answer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poise_git.agents.anthropic import Anthropic, coding, proposing, reflecting, steering
from poise_git.agents.anthropic.consent import refuse_address, refuse_recordings
from poise_git.agents.anthropic.ledger import Ledger
from poise_git.agents.anthropic.prompts import Prompts
from poise_git.agents.anthropic.recordings import Recordings
from poise_git.agents.anthropic.service import Service
from poise_git.agents.anthropic.session import Session
from poise_git.agents.interface import AgentEnvironment, CodeReview, Side
from poise_git.analysis.evidence import Evidence
from poise_git.analysis.lessons import Lesson
from poise_git.archive import Archive
from poise_git.archive.entries import Call, Direction, Proposal, Reflection
from poise_git.errors import CheckFailed
from poise_git.measurement.translation import Interpretation
from poise_git.pipeline.cache import cache_folder
from poise_git.search.context.context import Context
from poise_git.search.proposals.screening import Opinion
from poise_git.settings import AnthropicSettings


class AnthropicAgent:
    """Implements `poise_git.agents.interface.Agent` with calls of the Messages API.

    A bad reply does not end the search: it costs a proposal, or gives a neutral opinion, a failed check or a reflection
    by rules. A failed service (ServiceFailed) or an exhausted budget (BudgetReached) ends the search. Every paid reply
    is on disk, so the same search continues from there.
    """

    name: str = Anthropic.name

    def __init__(self, session: Session, directive: str = "") -> None:
        self.session, self.directive = session, directive

    @classmethod
    def of(cls, environment: AgentEnvironment) -> AnthropicAgent:
        """Create the agent from the archive's settings.

        Raises UsageError if the settings name an address or a folder that the user has not allowed.
        """
        settings, archive = environment.settings.anthropic, environment.archive
        refuse_address(settings.base_url, environment.preferences)
        folder = _folder(archive, settings)
        if settings.replay is not None:
            refuse_recordings(folder, environment.preferences)
        replaying = settings.replay is not None and settings.replay.mode == "replay"
        session = Session(
            settings=settings,
            prompts=Prompts(archive.list_texts("main", "prompts")),
            ledger=Ledger(settings.prices, environment.budget_usd, environment.spent_usd),
            recordings=Recordings(folder, replaying),
            service=None if replaying else Service(settings),
        )
        return cls(session, environment.directive)

    @property
    def calls(self) -> tuple[Call, ...]:
        return self.session.ledger.calls

    def interpret(self, directive: str, figures: Mapping[str, float]) -> Interpretation:
        return steering.interpret(self.session, directive, figures)

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        return proposing.propose(self.session, self.name, context, directions, seed)

    def screen(self, context: Context, proposals: Sequence[Proposal]) -> tuple[Opinion, ...]:
        return proposing.screen(self.session, context, proposals)

    def implement(self, proposal: Proposal, context: Context) -> str:
        return coding.implement(self.session, proposal, context.source)

    def resolve(self, proposal: Proposal, ours: Side, theirs: Side, source: str) -> str:
        return coding.resolve(self.session, proposal, ours, theirs, source)

    def verify(self, proposal: Proposal, source: str, change: str) -> CodeReview:
        return coding.verify(self.session, proposal, source, change)

    def repair(self, proposal: Proposal, source: str, failure: CheckFailed, context: Context) -> str | None:
        return coding.repair(self.session, proposal, source, failure)

    def reflect(self, proposal: Proposal, evidence: Evidence, change: str) -> Reflection:
        return reflecting.reflect(self.session, proposal, evidence, change, self.directive)

    def distill(self, lessons: Sequence[Lesson], earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return reflecting.distill(self.session, lessons, earlier)


def _folder(archive: Archive, settings: AnthropicSettings) -> Path:
    """The folder for replies: the folder in the settings, or else a cache."""
    if settings.replay is not None:
        return archive.root / settings.replay.folder
    place = hashlib.sha256(os.fsencode(archive.root)).hexdigest()[:16]
    return cache_folder("replies") / place
