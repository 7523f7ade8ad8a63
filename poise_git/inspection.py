"""What came in around the hooks: candidates whose commit, message, code or evidence is not what it has to be."""

from __future__ import annotations

from collections.abc import Iterator

from poise_git.archive import Archive
from poise_git.archive.conformity import Finding
from poise_git.archive.entries import ROOT, Candidate, Status
from poise_git.archive.refs import candidate_ref
from poise_git.auditing import audit
from poise_git.pipeline.checks import check_candidate
from poise_git.pipeline.checks.message import message_problems
from poise_git.pipeline.checks.runner import check_text
from poise_git.pipeline.sandbox import Sandbox
from poise_git.pipeline.sandbox.removal import fresh_folder

ALGORITHM = "algorithm.py"


def inspect(archive: Archive, sandbox: Sandbox) -> Iterator[Finding]:
    """Every defect of every candidate, as it is found.

    Code that has figures has passed all checks, so it is read only; what nobody has checked yet is run, in the sandbox.
    A failure that is archived is known, and no finding. Figures are computed again from the archived runs.
    """
    yield from archive.conformity()
    yield from audit(archive)
    for candidate in archive.genealogy():
        statuses = {metrics.status for metrics in candidate.metrics.values()}
        recipe = archive.recipe(candidate.name)
        for problem in message_problems(archive.description(candidate), recipe.get(ALGORITHM)):
            yield Finding(
                candidate_ref(candidate.name), problem, f"git switch poise/{candidate.name} && git commit --amend"
            )
        if statuses and statuses <= {Status.FAILED}:
            continue
        if reason := _failure(archive, candidate, recipe, None if statuses else sandbox):
            yield Finding(candidate_ref(candidate.name), reason, f"poise-git check {candidate.name}")


def _failure(archive: Archive, candidate: Candidate, recipe: dict[str, str], sandbox: Sandbox | None) -> str:
    """Why it fails its checks; without a sandbox those of its text alone. Empty if it does not."""
    parent = archive.recipe(candidate.parents[0] if candidate.parents else ROOT)
    if sandbox is None:
        failure = check_text(recipe, parent)
    else:
        proposal = archive.proposal(candidate.name) or archive.stated_proposal(candidate)
        with fresh_folder() as scratch:
            failure = check_candidate(recipe, proposal.claims, parent, sandbox, scratch).failure
    return f"check {failure.check} fails: {failure.reason}" if failure else ""
