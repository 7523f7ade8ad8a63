"""Ways in which a sandboxed run can fail."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from poise_git.errors import PoiseError
from poise_git.pipeline.sandbox.layers import Layer
from poise_git.user.choices import ALLOW_MISSING_LAYERS, MISSING_LAYERS_VARIABLE


def signal_text(number: int) -> str:
    """A signal's number, and its name if it has one: real-time signals have none."""
    name = next((each.name for each in signal.Signals if each == number), "")
    return f"{number} ({name})" if name else str(number)


class ChildFailed(PoiseError):
    """The child process did not return a value; with the `reason` in one line, and the tail of its output."""

    def __init__(self, reason: str, output: str = "") -> None:
        self.reason, self.output = reason, output
        super().__init__(reason)


class NeverBegan(PoiseError):
    """The child died before it ran any code of the caller, for example because the fork server was killed."""


class IsolationMissing(PoiseError):
    """This machine lacks a layer of the wall that the code needs; no code has run.

    Attributes:
        what: the missing layers, and the author of the refused code.
        advice: the next command.
    """

    def __init__(self, what: str, advice: str) -> None:
        self.what, self.advice = what, advice
        super().__init__(what, advice)

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"

    @classmethod
    def of(cls, missing: Sequence[Layer], *, archive_requires: bool) -> IsolationMissing:
        """Make the error. With `archive_requires`, the archive's settings refuse all code, shipped code included."""
        names = ", ".join(dict.fromkeys(layer.name for layer in missing))
        lacks = f"the sandbox lacks {names} on this machine"
        if archive_requires:
            return cls(
                f"{lacks}, and poise.yaml requires every layer",
                "for details: poise-git doctor; to let shipped code run, set sandbox.require_isolation: false",
            )
        return cls(
            f"{lacks}, so code that poise-git does not ship is refused",
            f"to run it anyway: {ALLOW_MISSING_LAYERS}, or {MISSING_LAYERS_VARIABLE}=allow for one command",
        )


class Cancelled(Exception):
    """The caller asked a job to stop; the candidate has not failed."""
