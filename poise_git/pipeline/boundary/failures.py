"""What a candidate does wrong, as one sentence."""

from __future__ import annotations

# Characters of a reason that comes from the candidate's side.
REASON_LENGTH = 500


class CandidateFailed(Exception):
    """The candidate's code did something wrong; the message says what, on one line."""


def one_line(text: str) -> str:
    """Without anything that a terminal would obey, or that no file can hold."""
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * REASON_LENGTH])
    return " ".join(printable.split())[:REASON_LENGTH]
