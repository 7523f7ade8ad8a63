"""The implement operator: a proposal's plan becomes edits of the parent's text. Also a few simple repairs."""

from __future__ import annotations

from poise_git.agents.library.ideas import idea_of
from poise_git.agents.library.mechanisms import mechanisms, set_knobs
from poise_git.agents.library.surgery import mend_imports
from poise_git.archive.entries import Proposal
from poise_git.errors import CheckFailed
from poise_git.search.context.context import Context
from poise_git.search.literature import Card


def implement(proposal: Proposal, context: Context) -> str:
    """The child's text.

    Raises:
        CheckFailed: `implement`, when the plan is not the library's, or does not fit the parent.
    """
    try:
        idea = idea_of(proposal.plan, context.cards)
    except (KeyError, ValueError, TypeError) as error:
        raise CheckFailed("implement", f"the plan of {proposal.name} cannot be carried out: {error}") from error
    return idea.apply(context.source, context.root_source)


def repair(source: str, failure: CheckFailed, cards: tuple[Card, ...]) -> str | None:
    """The text with missing imports added, or else with knobs moved back into their ranges; None if neither helps."""
    try:
        mended = mend_imports(source)
        if mended != source:
            return mended
        for mechanism in mechanisms(source, cards):
            knobs = mechanism.card.knobs
            bounded = {
                name: min(max(value, knobs[name].low), knobs[name].high) for name, value in mechanism.knobs.items()
            }
            mended = set_knobs(mended, mechanism.card, bounded)
    except CheckFailed:
        return None
    return mended if mended != source else None
