"""Verify a candidate before training: checks, a bounded number of repairs, and its branch in the archive."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from poise_git import events
from poise_git.archive.entries import ROOT, Proposal
from poise_git.pipeline.checks import CheckReport, check_candidate
from poise_git.pipeline.recipe import ALGORITHM
from poise_git.pipeline.sandbox.removal import fresh_folder
from poise_git.search.context.context import Context
from poise_git.steps.code_review import with_review
from poise_git.steps.session import Session


def check(session: Session, proposal: Proposal, recipe: Mapping[str, str]) -> CheckReport:
    """Run all checks on a child of the proposal's parent: first in the sandbox, then by code review."""
    parent = session.archive.recipe(proposal.parent or ROOT)
    names = tuple(name for name in (proposal.parent, proposal.second_parent) if name)
    containment = session.containing.of_checks(recipe.get(ALGORITHM, ""), names, session.genealogy)
    with fresh_folder() as scratch:
        report = check_candidate(recipe, proposal.claims, parent, session.sandbox, scratch, containment)
    if report.failure:
        return report
    began, text = time.perf_counter(), recipe[ALGORITHM]
    return with_review(report, session.agent.verify(proposal, text, session.change(proposal, text)), began)


def verify(session: Session, proposal: Proposal, source: str, context: Callable[[], Context]) -> bool:
    """Check and repair a candidate, and archive it whether it passed or not.

    Args:
        context: makes the context of a repair; called only if a repair is needed.
    """
    parent = session.archive.recipe(proposal.parent)
    repairs, report = 0, check(session, proposal, {**parent, ALGORITHM: source})
    while report.failure and repairs < session.experiment.settings.checks.repairs:
        repaired = session.agent.repair(proposal, source, report.failure, context())
        if repaired is None or repaired == source:
            break
        source, repairs = repaired, repairs + 1
        report = check(session, proposal, {**parent, ALGORITHM: source})
    session.add_candidate(proposal, source)
    return _conclude(session, proposal, report, repairs)


def verify_branch(session: Session, name: str) -> bool:
    """Check a candidate that already has a branch, such as a manual one; archive a failure."""
    candidate = session.genealogy[name]
    proposal = session.experiment.proposal(candidate)
    if candidate.evidence is None:
        session.archive.add_proposal(proposal)
    return _conclude(session, proposal, check(session, proposal, session.archive.recipe(name)), repairs=0)


def _conclude(session: Session, proposal: Proposal, report: CheckReport, repairs: int) -> bool:
    session.verdicts[proposal.name] = report.claims
    if report.failure:
        session.fail(proposal.name, report.failure.check, report.failure.reason)
        return False
    added = events.CandidateAdded(proposal.name, proposal.parent, proposal.mechanism, len(report.passed), repairs)
    session.observe(added)
    return True
