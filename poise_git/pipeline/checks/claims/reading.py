"""`[reading]`, or no brackets: a claim that no check decides."""

from __future__ import annotations

from poise_git.archive.statements import READING
from poise_git.pipeline.checks.claims.kind import ClaimKind, Decided


class Reading(ClaimKind):
    name = READING
    decided = Decided.BY_CODE_REVIEW
    wording = "something that only a code review can decide"
