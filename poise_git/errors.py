"""The tree of errors. Each message states what is wrong, where, and the next command.

PoiseError                     exit 1: failed
├── UsageError                 exit 2: the command line or a settings file is wrong
│   └── SettingsError          a field of a settings file, with file, line and field
├── BudgetReached              exit 3: stopped at the budget; all paid results are kept
├── ArchiveError
│   ├── NotAnArchive           the directory holds no archive
│   ├── ForeignArchive         the archive belongs to another user, whom git does not trust
│   ├── ArchiveLocked          another process holds the lock
│   ├── RefMoved               a ref changed between reading and writing it
│   ├── NameTaken              a candidate of that name exists
│   └── UnknownCandidate       no candidate or revision of that name
├── AgentError                 the agent cannot continue
│   ├── ServiceFailed          the service cannot be reached, or refuses the caller
│   └── ReplyUnusable          the reply is a refusal, is cut off, or has the wrong form
├── CheckFailed                a candidate's code failed a named check; the repair loop gets the message
└── RunFailed                  training or evaluation failed: stage and reason
"""

from __future__ import annotations


class PoiseError(Exception):
    """Root of the tree. `str(error)` is one line for a person."""

    exit_code = 1


class UsageError(PoiseError):
    exit_code = 2


class SettingsError(UsageError):
    """A settings file is wrong: `file:line: field: what`."""

    def __init__(self, file: str, line: int, field: str, what: str) -> None:
        self.file, self.line, self.field, self.what = file, line, field, what
        place = f"{file}:{line}" if line else file
        super().__init__(f"{place}: {field}: {what}" if field else f"{place}: {what}")


class SettingRenamed(UserWarning):
    """A settings file has a field under an old name: `file:line: field is called ...`."""


class BudgetReached(PoiseError):
    exit_code = 3

    @classmethod
    def of_hours(cls, hours: float) -> BudgetReached:
        return cls(f"the budget of {hours:g} hours is used up; the same command continues from here")


class ArchiveError(PoiseError):
    pass


class NotAnArchive(ArchiveError):
    pass


class ForeignArchive(ArchiveError):
    pass


class ArchiveLocked(ArchiveError):
    pass


class RefMoved(ArchiveError):
    pass


class NameTaken(ArchiveError):
    pass


class UnknownCandidate(ArchiveError):
    pass


class AgentError(PoiseError):
    pass


class ServiceFailed(AgentError):
    pass


class ReplyUnusable(AgentError):
    """The reply to a call of `operator` is unusable; `reason` begins with the name of the failure."""

    def __init__(self, operator: str, reason: str) -> None:
        self.operator, self.reason = operator, reason
        super().__init__(f"{operator}: {reason}")


class CheckFailed(PoiseError):
    """A candidate's code failed the check `check`; `reason` is what the author needs to repair it."""

    def __init__(self, check: str, reason: str) -> None:
        self.check, self.reason = check, reason
        super().__init__(f"check {check} failed: {reason}")


class RunFailed(PoiseError):
    """Training or evaluation of a candidate failed at `stage`."""

    def __init__(self, stage: str, reason: str) -> None:
        self.stage, self.reason = stage, reason
        super().__init__(f"{stage} failed: {reason}")
