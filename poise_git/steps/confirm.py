"""A winner is compared with the root on seeds that selection has never seen, before it is called one."""

from __future__ import annotations

from poise_git import events
from poise_git.archive.entries import ROOT, Estimate
from poise_git.steps.session import Session
from poise_git.steps.train import run_missing


def confirm(session: Session, name: str) -> Estimate | None:
    """The candidate's gain over the root on the protocol's fresh seeds; None where it cannot be had."""
    seeds = session.protocol.confirmation_seeds
    if name == ROOT or not seeds:
        return None
    for each, failure in run_missing(session, [name, ROOT], seeds):
        if failure:
            session.observe(events.ConfirmationFailed(each, failure.reason))
    gain = session.experiment.confirmation(name)
    session.observe(events.Confirmed(name, gain))
    return gain
