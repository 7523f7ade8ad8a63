"""The entries of an archive as values: e = (z proposal, ρ implementation, τ trajectory, y metrics, r reflection).

The archive does not depend on reinforcement learning: the backend names the metrics and series.
Every class here is frozen. `to_data` converts it to plain JSON or YAML data, and `from_data` converts the data back.
`from_data` checks every type and raises a ValueError if the data do not describe such an entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from poise_git.archive.codec import Entry
from poise_git.archive.facts import ReflectionFacts
from poise_git.untrusted.data import Deviation, Figure

ROOT = "grpo"
SCHEMA_VERSION = 1


# An amount paid or used. A negative amount would enlarge the budget.
Spent = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0)]


class Status(StrEnum):
    PENDING = "pending"
    EVALUATED = "evaluated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Estimate(Entry):
    """A mean over `n` independent runs with its standard error (None if n < 2).

    `interval` is half the width of its 95% interval; a difference has one if its noise is known.
    """

    OMITTED: ClassVar[frozenset[str]] = frozenset({"interval"})

    value: Figure
    se: Deviation | None
    n: Annotated[int, Field(ge=1, lt=2**63)]
    interval: Deviation | None = None


@dataclass(frozen=True, slots=True)
class Claim(Entry):
    """One falsifiable statement of a proposal and the check that decides it.

    `check` is the check's name and `arguments` its arguments; the pipeline and the analysis define the names.
    """

    statement: str
    check: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Direction(Entry):
    """The direction that the search assigns to one of a parent's N proposals, so that the N differ by construction.

    `kind` is the kind of thing that `name` names; the search defines the kinds. `reason` says why the search chose it.
    `departure` is the agent's reason for leaving the direction, "" if the proposal follows it.
    """

    OMITTED: ClassVar[frozenset[str]] = frozenset({"departure"})

    kind: str
    name: str
    reason: str = ""
    departure: str = ""


@dataclass(frozen=True, slots=True)
class Proposal(Entry):
    """z: a change of mechanism, before its code is written.

    `plan` holds the data that the implement operator of the proposing agent needs; only that agent reads it.
    `second_parent` is set for a crossover only. `direction` is None if the search assigned none.
    """

    OMITTED: ClassVar[frozenset[str]] = frozenset({"second_parent", "direction"})

    name: str
    parent: str
    mechanism: str
    hypothesis: str
    family: str
    agent: str
    knobs: Mapping[str, float] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    priors: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    second_parent: str | None = None
    direction: Direction | None = None

    def to_data(self) -> dict[str, Any]:
        # `super()` fails here, because `slots=True` makes a new class.
        return {"version": SCHEMA_VERSION, **Entry.to_data(self)}


@dataclass(frozen=True, slots=True)
class Isolation(Entry):
    """The isolation of a run's candidate from the trainer that measured it.

    `missing` names the layers of the sandbox that the machine lacked; `trusted` says that the candidate ran in the
    trainer's own process, by `--trust`.
    """

    missing: tuple[str, ...] = ()
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Run(Entry):
    """One training run of a candidate: one seed under one protocol.

    `values` is the metric vector y of this run (metric -> value, as the protocol's estimator defines it), `details`
    further final figures (suite -> metric -> value), `series` the trajectory τ (name -> one value per step),
    `curve` the evaluations during training ({"step": int, metric: value, ...} each). `isolation` is None in older
    archives, which did not record it.
    """

    OMITTED: ClassVar[frozenset[str]] = frozenset({"isolation"})

    protocol: str
    seed: int
    values: Mapping[str, float]
    details: Mapping[str, Mapping[str, float]]
    series: Mapping[str, tuple[float, ...]]
    curve: tuple[Mapping[str, float], ...]
    cpu_seconds: float
    isolation: Isolation | None = None

    def to_data(self) -> dict[str, Any]:
        data = Entry.to_data(self)
        # Existing archives have the isolation first.
        return {name: data[name] for name in sorted(data, key=lambda name: name != "isolation")}


class Outcome(StrEnum):
    """The outcome of training a run again."""

    EQUAL = "equal"
    WITHIN_NOISE = "within noise"
    DIFFERS = "differs"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Reproduction(Entry):
    """One archived run, trained again with the same recipe, protocol and seed.

    `figure` is the first figure that differs, "" if all are equal to the last bit; `before` and `again` are its values.
    `utility_apart` is the change of U, `allowed` the change that noise explains (None if unknown). `torch` and
    `processor` describe the machine that compared; the archive does not record them for the first run.
    """

    OMITTED: ClassVar[frozenset[str]] = frozenset(
        {"figure", "before", "again", "utility_apart", "allowed", "torch", "processor", "reason"}
    )

    protocol: str
    seed: int
    outcome: Outcome
    figure: str = ""
    before: float | None = None
    again: float | None = None
    utility_apart: float | None = None
    allowed: float | None = None
    torch: str = ""
    processor: str = ""
    reason: str = ""

    @property
    def reproduces(self) -> bool:
        return self.outcome in (Outcome.EQUAL, Outcome.WITHIN_NOISE)

    @property
    def refutes(self) -> bool:
        """Whether the difference is too large for noise. Machines round differently, so other last bits are allowed."""
        known = self.utility_apart is not None and self.allowed is not None
        return self.outcome is Outcome.DIFFERS and known and not abs(self.utility_apart or 0.0) <= (self.allowed or 0.0)


@dataclass(frozen=True, slots=True)
class Call(Entry):
    """One paid call that an agent made for a candidate: an entry of its ledger.

    `key` names the call within the archive. `subject` is the candidate or proposal that it was for ("" for a whole
    round). `prompt` is the git blob id of the prompt template. `input_tokens` does not count the tokens that were read
    from the prompt cache (`cached_tokens`) or written to it (`written_tokens`). `usd` is None for a model without a
    price. `seconds` is the latency. `outcome` is "ok" or the name of a failure. `replayed` says that the reply came
    from a recording.
    """

    OMITTED: ClassVar[frozenset[str]] = frozenset({"replayed"})

    key: str
    operator: str
    subject: str
    model: str
    prompt: str
    input_tokens: Tokens
    output_tokens: Tokens
    cached_tokens: Tokens
    written_tokens: Tokens
    usd: Spent | None
    seconds: float
    outcome: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Violation(Entry):
    """A constraint of the objective that a candidate breaks: the figure, its bound, and the distance beyond it."""

    metric: str
    bound: str
    excess: Estimate

    @property
    def constraint(self) -> str:
        return f"{self.metric} {self.bound}"


# The fields of a measured candidate, in the order of `metrics.yaml`.
_FIGURES = ("utility", "gain", "violations", "values", "further", "details", "dynamics", "seeds", "cpu_seconds")


@dataclass(frozen=True, slots=True)
class Metrics(Entry):
    """y: the measured quality of a candidate under one protocol, or the reason of its failure.

    `utility` is U(y); `gain` is the mean difference from the root, paired by seed (None for the root itself);
    `values` holds one estimate per suite, `further` one of each other metric that the objective counts, `details` the
    suites' other figures, `dynamics` the state of training towards its end (series -> mean over seeds and regimes).
    `objective` is the fingerprint of the objective that U was computed with ("" if not recorded), `violations` the
    constraints that the candidate breaks. `calls` is the ledger of the agent's calls, `usd` their total cost; a note
    has only `usd`. `algorithm` is the git blob of the measured `recipe/algorithm.py` (12 digits), which the archive
    fills in. For a failed candidate, `stage` and `reason` describe the failure, and the figures are empty.
    """

    OMITTED: ClassVar[frozenset[str]] = frozenset({"objective", "algorithm"})

    status: Status
    protocol: str
    utility: Estimate | None = None
    gain: Estimate | None = None
    values: Mapping[str, Estimate] = field(default_factory=dict)
    further: Mapping[str, Estimate] = field(default_factory=dict)
    details: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    dynamics: Mapping[str, float] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    cpu_seconds: float = 0.0
    objective: str = ""
    violations: tuple[Violation, ...] = ()
    stage: str = ""
    reason: str = ""
    calls: tuple[Call, ...] = ()
    algorithm: str = ""
    usd: Spent = 0.0

    def with_calls(self, calls: tuple[Call, ...]) -> Metrics:
        """Set the ledger and its sum. The ledger includes replayed calls; the sum does not, because others paid."""
        return replace(self, calls=calls, usd=sum(call.usd or 0.0 for call in calls if not call.replayed))

    def to_data(self) -> dict[str, Any]:
        found = ("stage", "reason") if self.status is Status.FAILED else _FIGURES
        ledger = ("usd", "calls") if self.calls else ()
        names = ("status", "protocol", "objective", "algorithm", *found, *ledger)
        return {"version": SCHEMA_VERSION, **self.data_of(names)}


@dataclass(frozen=True, slots=True)
class Reflection:
    """r: the diagnosis. `facts` is the front matter (verdicts, evidence, next steps), `prose` the text."""

    facts: ReflectionFacts
    prose: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One algorithm, read from the archive's refs, commits and metric notes; no field is read from YAML.

    `parents` are candidate names (none for the root, two for a crossover). `evidence` is the tip of
    `evidence/<name>`. `metrics` holds the latest metrics of every protocol, by protocol hash. `claimed` are the
    parents that the commit's trailers name; `parents` comes from the commit graph and takes precedence.
    """

    name: str
    commit: str
    parents: tuple[str, ...]
    mechanism: str
    hypothesis: str
    family: str
    priors: tuple[str, ...]
    agent: str
    evidence: str | None
    metrics: Mapping[str, Metrics]
    claimed: tuple[str, ...] = ()

    def metrics_under(self, protocol: str) -> Metrics | None:
        return self.metrics.get(protocol)

    def status_under(self, protocol: str) -> Status:
        metrics = self.metrics.get(protocol)
        return metrics.status if metrics else Status.PENDING
