"""The events of a running search. An observer is any function of one event; it must not raise or block for long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poise_git.archive.entries import Direction, Estimate, Metrics
from poise_git.measurement.translation import Interpretation
from poise_git.pipeline.interface import Progress


@dataclass(frozen=True)
class LayersMissing:
    """This machine lacks layers of the sandbox. Shipped code runs without them, and other code runs if `allowed`."""

    layers: tuple[str, ...]
    allowed: bool


@dataclass(frozen=True)
class Preparing:
    progress: Progress


@dataclass(frozen=True)
class DirectiveTranslated:
    """An agent translated the directive; poise.yaml holds the objective from now on."""

    directive: str
    reading: Interpretation


@dataclass(frozen=True)
class EditsKept:
    """A file of `main` has changed, and the file in the work tree has other changes that conflict with it."""

    file: str


@dataclass(frozen=True)
class RoundPlanned:
    number: int
    parents: tuple[tuple[str, str], ...]
    resumed: bool


@dataclass(frozen=True)
class CandidateAdded:
    name: str
    parent: str
    mechanism: str
    checks_passed: int
    repairs: int


@dataclass(frozen=True)
class ProposalRejected:
    """Screening rejected a proposal at a gate."""

    name: str
    parent: str
    gate: str
    reason: str


@dataclass(frozen=True)
class AllRejected:
    """Every proposal for a parent was rejected. With `again`, the agent gets the reasons and tries once more."""

    parent: str
    proposals: int
    attempt: int
    again: bool


@dataclass(frozen=True)
class ProposalSkipped:
    name: str
    parent: str
    reason: str


@dataclass(frozen=True)
class Waiting:
    """The search waits for a manual candidate, preferably a child of `parent` in one of the directions."""

    parent: str
    directions: tuple[Direction, ...]


@dataclass(frozen=True)
class Rewritten:
    """A candidate's code changed during training. The run is dropped, and the candidate is pending again."""

    name: str
    seed: int


@dataclass(frozen=True)
class JobProgress:
    candidate: str
    seed: int
    progress: Progress


@dataclass(frozen=True)
class RunEnded:
    candidate: str
    seed: int
    utility: float | None
    cpu_seconds: float


@dataclass(frozen=True)
class CandidateEvaluated:
    name: str
    metrics: Metrics
    evaluated: int


@dataclass(frozen=True)
class MeasuredAgain:
    """The candidates in `again` are replicated on more seeds, so that noise does not decide which one is best."""

    again: tuple[str, ...]


@dataclass(frozen=True)
class CodeRefused:
    """A manual candidate was skipped because its code may not run on this machine."""

    name: str
    reason: str


@dataclass(frozen=True)
class CandidateFailed:
    name: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Confirmed:
    """The winner was compared with the root on fresh seeds; `gain` is None unless all fresh seeds have both runs."""

    name: str
    gain: Estimate | None


@dataclass(frozen=True)
class ConfirmationFailed:
    name: str
    reason: str


Event = (
    LayersMissing
    | Preparing
    | DirectiveTranslated
    | EditsKept
    | RoundPlanned
    | CandidateAdded
    | ProposalRejected
    | AllRejected
    | ProposalSkipped
    | Waiting
    | Rewritten
    | JobProgress
    | RunEnded
    | CandidateEvaluated
    | MeasuredAgain
    | CandidateFailed
    | CodeRefused
    | Confirmed
    | ConfirmationFailed
)

Observer = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Ignore an event; the default observer."""
