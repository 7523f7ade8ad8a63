"""Add candidates that people have committed with plain git to the search."""

from __future__ import annotations

from poise_git import events
from poise_git.archive.entries import Candidate
from poise_git.pipeline.recipe import ALGORITHM
from poise_git.pipeline.sandbox import IsolationMissing
from poise_git.steps.reflect import reflect_and_archive
from poise_git.steps.session import Session
from poise_git.steps.train import train_and_evaluate
from poise_git.steps.verify import verify_branch


def adopt_manual_candidates(session: Session) -> bool:
    """Verify, train and reflect on each that has no figures yet. Return whether there was any."""
    earlier, found, verified = list[Candidate](), False, list[str]()
    for candidate in session.genealogy:
        if candidate.parents and not candidate.metrics and candidate.name not in session.refused:
            found |= _adopt(session, candidate, earlier, verified)
        earlier.append(candidate)
    reflect_and_archive(session, train_and_evaluate(session, verified))
    return found


def _adopt(session: Session, candidate: Candidate, earlier: list[Candidate], verified: list[str]) -> bool:
    """Return False if the candidate's code may not run here. Add a candidate that is to be trained to `verified`."""
    source = session.archive.recipe(candidate.name).get(ALGORITHM, "")
    original = session.proposing.duplicates.find(source, earlier, {})
    if original:
        session.fail(candidate.name, "duplicate", f"the same algorithm as {original}")
        return True
    try:
        if verify_branch(session, candidate.name):
            verified.append(candidate.name)
    except IsolationMissing as missing:
        # One person's code must not stop the whole search.
        session.refused.add(candidate.name)
        session.observe(events.CodeRefused(candidate.name, str(missing)))
        return False
    return True
