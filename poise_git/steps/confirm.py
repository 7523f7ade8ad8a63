"""Compare a winner with the root on seeds that selection has never used, before it is reported as the winner.

A mechanism may only shift the best learning rate. So where the protocol names further rates, both are first trained at
each of them on the protocol's own seeds, and then compared on the fresh ones, each at its best rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from poise_git import events
from poise_git.archive.entries import ROOT, Estimate
from poise_git.steps.session import Session
from poise_git.steps.train import run_missing


def confirm(session: Session, name: str) -> Estimate | None:
    """Return the candidate's gain over the root on the protocol's fresh seeds; None if there is no such figure."""
    protocol = session.protocol
    if name == ROOT or not protocol.confirmation_seeds:
        return None
    for factor in protocol.finalist_learning_rates:
        # A rate at which training fails is not the best one, so failures there are no news.
        for _ in run_missing(_at(session, factor), [name, ROOT], protocol.seeds):
            pass
    _run(session, [name, ROOT], protocol.confirmation_seeds)
    for each in (name, ROOT):
        if (factor := session.experiment.best_learning_rate(each)) != 1.0:
            _run(_at(session, factor), [each], protocol.confirmation_seeds)
    gain = session.experiment.confirmation(name)
    session.observe(events.Confirmed(name, gain))
    return gain


def _at(session: Session, factor: float) -> Session:
    return replace(session, experiment=session.experiment.at_learning_rate(factor))


def _run(session: Session, names: Sequence[str], seeds: Sequence[int]) -> None:
    for each, failure in run_missing(session, names, seeds):
        if failure:
            session.observe(events.ConfirmationFailed(each, failure.reason))
