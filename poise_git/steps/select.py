"""Select parents, the beginning of phase I."""

from __future__ import annotations

from poise_git.search.selection import policy_of
from poise_git.search.selection.interface import Selection, Survey
from poise_git.steps.session import Session


def round_seed(seed: int, number: int) -> int:
    """The seed of one round; its slots use the seeds that follow."""
    return seed * 1_000_003 + number * 101


def select_parents(session: Session, seed: int, remaining: int | None) -> tuple[Survey, Selection]:
    """Return the policy's survey and its selection; `remaining` evaluations are left, None if unknown."""
    settings = session.experiment.settings.search
    survey = session.experiment.survey(session.genealogy, remaining)
    count = min(settings.parents, remaining or settings.parents)
    return survey, policy_of(settings).select(survey, count, seed)
