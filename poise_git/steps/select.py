"""Phase I begins: which candidates become parents."""

from __future__ import annotations

from poise_git.search.selection import policy_of
from poise_git.search.selection.interface import Selection, Survey
from poise_git.steps.session import Session


def round_seed(seed: int, number: int) -> int:
    """The seed of one round; its slots use the ones that follow."""
    return seed * 1_000_003 + number * 101


def select_parents(session: Session, seed: int, remaining: int | None) -> tuple[Survey, Selection]:
    """What the policy was shown, and what it chose; `remaining` evaluations are left, where the search knows."""
    settings = session.experiment.settings.search
    survey = session.experiment.survey(session.genealogy, remaining)
    count = min(settings.parents, remaining or settings.parents)
    return survey, policy_of(settings).select(survey, count, seed)
