"""How a sandboxed run can end other than well."""

from __future__ import annotations

from poise_git.errors import PoiseError


class ChildFailed(PoiseError):
    """The child process did not return a value: `reason` in one line, and the tail of what it printed."""

    def __init__(self, reason: str, output: str = "") -> None:
        self.reason, self.output = reason, output
        super().__init__(reason)


class NeverBegan(PoiseError):
    """The child died before it ran any code of the caller's, as when the fork server is killed."""


class IsolationMissing(PoiseError):
    """The settings require every layer of the wall and this machine lacks some; nothing was run."""


class Cancelled(Exception):
    """The caller asked a job to stop; nothing is wrong with the candidate."""
