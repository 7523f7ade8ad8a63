"""The last check before training: the agent reviews the code against its proposal."""

from __future__ import annotations

import time
from dataclasses import replace

from poise_git.agents.interface import CodeReview
from poise_git.analysis.evidence import ClaimVerdict, Verdict
from poise_git.errors import CheckFailed
from poise_git.pipeline.checks import CheckReport

CODE_REVIEW = "code-review"


def with_review(report: CheckReport, review: CodeReview, began: float) -> CheckReport:
    """Return the report with the code review as one more check; `began` is its start by `time.perf_counter`.

    A claim that no check has decided records the reviewer's objection to it.
    """
    claims = tuple(_doubted(entry) if entry.claim.statement in review.unproven else entry for entry in report.claims)
    if not review.implements:
        return replace(report, claims=claims, failure=CheckFailed(CODE_REVIEW, review.reason))
    passed = (*report.passed, (CODE_REVIEW, time.perf_counter() - began))
    return replace(report, claims=claims, passed=passed)


def _doubted(entry: ClaimVerdict) -> ClaimVerdict:
    if entry.verdict is not Verdict.UNDECIDED:
        return entry
    return replace(entry, because=f"{entry.because}; a reader finds it unproven by the code")
