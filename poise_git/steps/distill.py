"""Distill the reflections of a search into principles, which every later context shows."""

from __future__ import annotations

from typing import Any

from poise_git.analysis.lessons import Lesson
from poise_git.archive.entries import ROOT, Candidate
from poise_git.search.selection.survey import evaluated
from poise_git.steps.session import Session

# The smallest number of candidates that principles can be about.
FEWEST = 2


def distill_principles(session: Session, number: int) -> None:
    """Journal, once per round, the principles that the evidence before round `number` supports."""
    archive, agent = session.archive, session.agent
    earlier: dict[str, Any] = archive.principles()
    known = (candidate for candidate, _ in evaluated(session.counted, session.protocol.hash).values())
    found = (_lesson(session, candidate) for candidate in known if candidate.name != ROOT)
    lessons = [lesson for lesson in found if lesson]
    if len(lessons) < FEWEST or earlier.get("round") == number:
        return
    stated = earlier.get("principles")
    before = [entry for entry in stated if isinstance(entry, dict)] if isinstance(stated, list) else []
    principles = agent.distill(lessons, before)
    archive.write_principles({"version": 1, "round": number, "agent": agent.name, "principles": principles})


def _lesson(session: Session, candidate: Candidate) -> Lesson | None:
    """The lesson of a candidate's reflection, read once; None if it has no reflection."""
    if candidate.evidence is None:
        return None
    if candidate.evidence not in session.lessons:
        reflection = session.archive.reflection_of(candidate)
        if reflection is None:
            return None
        session.lessons[candidate.evidence] = Lesson.of(session.experiment.proposal(candidate), reflection)
    return session.lessons[candidate.evidence]
