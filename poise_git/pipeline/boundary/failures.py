"""What a candidate does wrong, as one sentence."""

from __future__ import annotations

# Characters of a reason that comes from the candidate's side.
REASON_LENGTH = 300


class CandidateFailed(Exception):
    """The candidate's code did something wrong; the message says what, on one line."""


def one_line(text: str) -> str:
    """At most REASON_LENGTH characters that can be printed and encoded, on one line."""
    line = " ".join(text[: 4 * REASON_LENGTH].split())[:REASON_LENGTH]
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
