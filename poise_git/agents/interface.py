"""The boundary between the loop and an agent, which implements the operators of the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from typing import Protocol as Interface

from poise_git import events
from poise_git.analysis.evidence import Evidence
from poise_git.analysis.lessons import Lesson
from poise_git.archive import Archive
from poise_git.archive.entries import Call, Direction, Proposal, Reflection
from poise_git.errors import CheckFailed
from poise_git.events import ignore_events
from poise_git.measurement.translation import Interpretation
from poise_git.search.context.context import Context
from poise_git.search.proposals.screening import Opinion
from poise_git.settings import PoiseSettings
from poise_git.user.preferences import Preferences


@dataclass(frozen=True)
class AgentEnvironment:
    """The environment of an agent.

    `budget_usd` limits the total cost of the archive's calls. `spent_usd` is the cost of the calls so far.
    `budget_hours` limits the time that an agent may wait for a person. `observe` receives its events. `preferences` are
    the user's choices; by default there are none.
    """

    archive: Archive
    settings: PoiseSettings
    directive: str = ""
    budget_usd: float | None = None
    spent_usd: float = 0.0
    budget_hours: float | None = None
    observe: events.Observer = ignore_events
    preferences: Preferences = field(default_factory=Preferences)


@dataclass(frozen=True)
class Workload:
    """The workload of a search: `candidates` in `rounds`, and the settings that multiply calls."""

    rounds: int
    candidates: int
    proposals: int
    resamples: int
    repairs: int
    distill_every: int
    context_tokens: int


@dataclass(frozen=True)
class ExpectedCalls:
    """Calls of one operator, from `low` to `high`, and US dollars (None if the model has no price)."""

    operator: str
    low: int
    high: int
    usd_low: float | None
    usd_high: float | None


@dataclass(frozen=True)
class CodeReview:
    """A code review: whether the code implements the proposal, and if not, the reason.

    `unproven` lists the statements of claims that the code does not support.
    """

    implements: bool
    reason: str
    unproven: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """One of the two candidates of a crossover; `change` is its diff from their common ancestor."""

    name: str
    change: str


class AgentKind:
    """The description of an agent before it is loaded: one object per agent, in the `__init__` of its package.

    Attributes:
        name: the name in `poise.yaml` and for `--agent`.
    """

    name: ClassVar[str]

    def open(self, environment: AgentEnvironment) -> Agent:
        """Load the agent. Raises UsageError if the agent cannot work with these settings."""
        raise NotImplementedError

    def expected_calls(self, workload: Workload, settings: PoiseSettings) -> tuple[ExpectedCalls, ...]:
        """The agent's paid calls by operator; empty for an agent without paid calls."""
        return ()


class Agent(Interface):
    """Proposes, screens, implements, verifies, repairs, reflects and distills.

    Contract: operators never write to the archive, never run a candidate's code in this process, and are
    deterministic where the agent is (the library agent is; a language model is not).
    """

    name: str

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every paid call of this process so far, in order; empty for an agent without paid calls."""
        ...

    def interpret(self, directive: str, figures: Mapping[str, float]) -> Interpretation:
        """Translate a directive into an objective over `figures`, the figures of the root's runs with their values."""
        ...

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        """At most one proposal per direction for a child of `context.parent`, in the order of the directions.

        Each has its direction, with a `departure` if it leaves the direction, and a name that is neither in
        `context.taken_names` nor the name of another proposal. If the agent runs out of ideas, there are fewer or none.
        `context.rejected` holds this round's rejections for this parent, with reasons.
        """
        ...

    def screen(self, context: Context, proposals: Sequence[Proposal]) -> tuple[Opinion, ...]:
        """The agent's opinion on each proposal, in their order, before any is implemented."""
        ...

    def implement(self, proposal: Proposal, context: Context) -> str:
        """The text of the child's `recipe/algorithm.py`.

        Raises:
            CheckFailed: the proposal cannot be written on top of this parent.
        """
        ...

    def repair(self, proposal: Proposal, source: str, failure: CheckFailed, context: Context) -> str | None:
        """A repaired `source`, or None if the agent cannot repair it."""
        ...

    def resolve(self, proposal: Proposal, ours: Side, theirs: Side, source: str) -> str:
        """The text of a crossover whose sides changed the same lines; `source` is the text of `ours`.

        Raises:
            CheckFailed: `implement`: the agent cannot resolve the conflict.
        """
        ...

    def verify(self, proposal: Proposal, source: str, change: str) -> CodeReview:
        """An independent review of code that has passed the checks; `change` is its diff from the parent."""
        ...

    def reflect(self, proposal: Proposal, evidence: Evidence, change: str) -> Reflection:
        """The diagnosis of a trained candidate: the changed figures, the verdicts on claims, and next steps."""
        ...

    def distill(self, lessons: Sequence[Lesson], earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The principles that the lessons support, as plain data; they replace the earlier ones."""
        ...
