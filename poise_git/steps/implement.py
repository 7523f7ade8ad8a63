"""Turn a proposal into the text of an algorithm, and into a verified candidate on its own branch."""

from __future__ import annotations

from functools import cache

from poise_git import events
from poise_git.archive import HUMAN
from poise_git.archive.entries import Status
from poise_git.errors import CheckFailed
from poise_git.search.context.context import Context
from poise_git.search.plan import Slot
from poise_git.steps.session import Session
from poise_git.steps.verify import verify, verify_branch


def implement_and_verify(session: Session, slot: Slot) -> str | None:
    """Implement and verify the slot's candidate. Return its name if it is ready to train, or None."""
    proposal = slot.chosen
    if proposal is None:
        return None
    if proposal.agent == HUMAN and proposal.name not in session.genealogy:
        # A person may have committed the candidate while the agent waited.
        session.forget()
    if proposal.name in session.genealogy:
        pending = session.genealogy[proposal.name].status_under(session.protocol.hash) is Status.PENDING
        # A killed process may have archived the candidate before the checks reached a verdict.
        return proposal.name if pending and verify_branch(session, proposal.name) else None
    draft = session.proposing.drafts.pop(proposal.name, None)

    @cache
    def context() -> Context:
        # Only an earlier process's plan has no draft.
        return draft.context if draft else session.context(slot.parent, slot.seed)

    try:
        source = draft.source if draft else session.agent.implement(proposal, context())
    except CheckFailed as failure:
        session.observe(events.ProposalSkipped(proposal.name, slot.parent, failure.reason))
        return None
    return proposal.name if verify(session, proposal, source, context) else None
