"""A candidate's failure, as one sentence."""

from __future__ import annotations

# The longest reason from the candidate's side, in characters.
REASON_LENGTH = 500


class CandidateFailed(Exception):
    """The candidate's code failed; the message says how, on one line."""


def one_line(text: str) -> str:
    """At most REASON_LENGTH printable characters, on one line."""
    line = " ".join(text[: 4 * REASON_LENGTH].split())[:REASON_LENGTH]
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
