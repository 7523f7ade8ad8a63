"""Names of candidates, and the refs made from them."""

from __future__ import annotations

import re

from poise_git.errors import UsageError

CANDIDATES = "refs/heads/poise/"
EVIDENCE = "refs/heads/evidence/"
JOURNAL = "refs/heads/poise-journal"
MAIN = "refs/heads/main"
NOTES = "refs/notes/poise/"
METRICS_NOTES = f"{NOTES}metrics"
REFLECTION_NOTES = f"{NOTES}reflection"
TRAJECTORY_NOTES = f"{NOTES}trajectory"
# One line with the result, for people only; no code reads it.
RESULT_NOTES = f"{NOTES}result"

NAME_PATTERN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
NAME_LENGTH = 80


def check_name(name: str) -> str:
    """Validate `name` as the name of a candidate: kebab-case, at most 80 characters.

    Raises UsageError if it is invalid.
    """
    if len(name) > NAME_LENGTH or not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"{name[:NAME_LENGTH]!r} is not a valid candidate name: use lower-case letters and digits joined by single "
            f"hyphens, at most {NAME_LENGTH} characters, like vm-av-grpo"
        )
    return name


def candidate_ref(name: str) -> str:
    return CANDIDATES + check_name(name)


def evidence_ref(name: str) -> str:
    return EVIDENCE + check_name(name)


def candidate_name(text: str) -> str | None:
    """The candidate of `x`, `poise/x`, `evidence/x` or one of their full ref names; None for anything else."""
    name = text.removeprefix("refs/heads/")
    for folder in ("poise/", "evidence/"):
        if name.startswith(folder):
            name = name.removeprefix(folder)
            break
    return name if len(name) <= NAME_LENGTH and NAME_PATTERN.fullmatch(name) else None
