"""Find candidates that bypassed the hooks: their commit, message, code or evidence breaks a rule."""

from __future__ import annotations

from collections.abc import Iterator

from poise_git.archive import Archive
from poise_git.archive.conformity import Finding
from poise_git.archive.entries import ROOT, Candidate, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.refs import candidate_ref
from poise_git.errors import CheckFailed
from poise_git.operators.audit import audit
from poise_git.pipeline.checks import check_candidate
from poise_git.pipeline.checks.message import message_problems
from poise_git.pipeline.checks.runner import check_text
from poise_git.pipeline.sandbox import IsolationMissing, Sandbox
from poise_git.pipeline.sandbox.removal import fresh_folder
from poise_git.steps.containment import Containing

ALGORITHM = "algorithm.py"


def inspect(archive: Archive, sandbox: Sandbox, containing: Containing) -> Iterator[Finding]:
    """Every defect of every candidate, yielded as it is found.

    Code with figures has passed all checks, so only its text is checked. Unchecked code runs in the sandbox; if it must
    not run on this machine, that is a finding. An archived failure is known and is not a finding. Figures are computed
    again from the archived runs.
    """
    yield from archive.conformity()
    yield from audit(archive)
    genealogy = archive.genealogy()
    for candidate in genealogy:
        statuses = {metrics.status for metrics in candidate.metrics.values()}
        recipe = archive.recipe(candidate.name)
        for problem in message_problems(archive.description(candidate), recipe.get(ALGORITHM)):
            yield Finding(
                candidate_ref(candidate.name), problem, f"git switch poise/{candidate.name} && git commit --amend"
            )
        if statuses and statuses <= {Status.FAILED}:
            continue
        try:
            reason = (
                _failure_of_text(archive, candidate, recipe)
                if statuses
                else _failure(archive, candidate, recipe, sandbox, containing, genealogy)
            )
        except IsolationMissing as missing:
            yield Finding(candidate_ref(candidate.name), f"unchecked: {missing.what}", missing.advice)
            continue
        if reason:
            yield Finding(candidate_ref(candidate.name), reason, f"poise-git check {candidate.name}")


def _failure_of_text(archive: Archive, candidate: Candidate, recipe: dict[str, str]) -> str:
    """The reason why a candidate fails the static checks; empty if it passes."""
    return _in_words(check_text(recipe, _parents_recipe(archive, candidate)))


def _failure(
    archive: Archive,
    candidate: Candidate,
    recipe: dict[str, str],
    sandbox: Sandbox,
    containing: Containing,
    genealogy: Genealogy,
) -> str:
    """The reason why a candidate fails its checks; empty if it passes. Raises IsolationMissing."""
    parent = _parents_recipe(archive, candidate)
    proposal = archive.proposal(candidate.name) or archive.stated_proposal(candidate)
    containment = containing.of_checks(recipe.get(ALGORITHM, ""), candidate.parents, genealogy)
    with fresh_folder() as scratch:
        return _in_words(check_candidate(recipe, proposal.claims, parent, sandbox, scratch, containment).failure)


def _parents_recipe(archive: Archive, candidate: Candidate) -> dict[str, str]:
    return archive.recipe(candidate.parents[0] if candidate.parents else ROOT)


def _in_words(failure: CheckFailed | None) -> str:
    return f"check {failure.check} fails: {failure.reason}" if failure else ""
