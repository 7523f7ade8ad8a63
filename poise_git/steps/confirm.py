"""Compare a winner with the root on seeds that selection has never used, before it is reported as the winner."""

from __future__ import annotations

from poise_git import events
from poise_git.archive.entries import ROOT, Estimate
from poise_git.steps.session import Session
from poise_git.steps.train import run_missing


def confirm(session: Session, name: str) -> Estimate | None:
    """Return the candidate's gain over the root on the protocol's fresh seeds; None if there is no such figure."""
    seeds = session.protocol.confirmation_seeds
    if name == ROOT or not seeds:
        return None
    for each, failure in run_missing(session, [name, ROOT], seeds):
        if failure:
            session.observe(events.ConfirmationFailed(each, failure.reason))
    gain = session.experiment.confirmation(name)
    session.observe(events.Confirmed(name, gain))
    return gain
