"""The human agent: a person or coding agent commits candidates with plain git, and `propose` waits for a branch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from poise_git import events
from poise_git.agents.interface import CodeReview, Side
from poise_git.agents.library.distill import distill
from poise_git.agents.library.interpret import interpret
from poise_git.agents.library.reflect import reflect
from poise_git.analysis.evidence import Evidence
from poise_git.analysis.lessons import Lesson
from poise_git.archive import HUMAN, Archive
from poise_git.archive.entries import Call, Candidate, Direction, Proposal, Reflection
from poise_git.archive.refs import CANDIDATES
from poise_git.errors import BudgetReached, CheckFailed
from poise_git.measurement.translation import Interpretation
from poise_git.search.context.context import Context
from poise_git.search.proposals.screening import Opinion

ALGORITHM = "algorithm.py"
# The interval between two looks at the branches while waiting, in seconds.
LOOK_SECONDS = 2.0
# The author of a candidate answers for it, so no opinion is needed before training.
OPINION = Opinion(consistency=1.0, feasibility=1.0, improvement=0.5, accepted=True, reason="committed by hand")


class HumanAgent:
    """Implements `poise_git.agents.interface.Agent`.

    One commit proposes, screens and implements a candidate. Only its author repairs it.
    """

    name: str = HUMAN
    calls: tuple[Call, ...] = ()

    def __init__(self, archive: Archive, observe: events.Observer, budget_hours: float | None = None) -> None:
        self.archive, self.observe = archive, observe
        self.budget_hours, self.started = budget_hours, time.monotonic()

    def interpret(self, directive: str, figures: Mapping[str, float]) -> Interpretation:
        """Translate by the library's rules; a person can edit poise.yaml."""
        return interpret(directive, figures)

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        """The pending children of `context.parent`; wait until there is one, or a child of any other parent."""
        parent = context.parent.candidate.name
        pending = self._pending()
        if not pending:
            self.observe(events.Waiting(parent, tuple(directions)))
            pending = self._wait()
        return tuple(
            self.archive.stated_proposal(candidate)
            for candidate in pending
            if candidate.parents[:1] == (parent,) and candidate.name not in context.taken_names
        )[: len(directions)]

    def screen(self, context: Context, proposals: Sequence[Proposal]) -> tuple[Opinion, ...]:
        return tuple(OPINION for _ in proposals)

    def implement(self, proposal: Proposal, context: Context) -> str:
        source = self.archive.recipe(proposal.name).get(ALGORITHM)
        if source is None:
            raise CheckFailed("files", f"poise/{proposal.name} has no recipe/{ALGORITHM}")
        return source

    def repair(self, proposal: Proposal, source: str, failure: CheckFailed, context: Context) -> str | None:
        return None

    def resolve(self, proposal: Proposal, ours: Side, theirs: Side, source: str) -> str:
        raise CheckFailed(
            "implement", f"{ours.name} and {theirs.name} change the same lines; merge them by hand: git merge"
        )

    def verify(self, proposal: Proposal, source: str, change: str) -> CodeReview:
        """The author has reviewed the code."""
        return CodeReview(True, "", ())

    def reflect(self, proposal: Proposal, evidence: Evidence, change: str) -> Reflection:
        """A reflection by the library's rules; a person can extend it on the evidence branch."""
        return reflect(proposal, evidence)

    def distill(self, lessons: Sequence[Lesson], earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return distill(lessons)

    def _wait(self) -> list[Candidate]:
        """Wait for pending candidates. Raises BudgetReached when the hours of the search are used up."""
        seen: dict[str, str] = {}
        while self.budget_hours is None or time.monotonic() - self.started < self.budget_hours * 3600:
            tips = self.archive.repository.refs(CANDIDATES)
            if tips != seen and (pending := self._pending()):
                return pending
            seen = tips
            time.sleep(LOOK_SECONDS)
        raise BudgetReached.of_hours(self.budget_hours)

    def _pending(self) -> list[Candidate]:
        """Candidates without metrics under any protocol."""
        return [candidate for candidate in self.archive.genealogy() if candidate.parents and not candidate.metrics]
