"""What an archive holds, as values: e = (z proposal, ρ implementation, τ trajectory, y metrics, r reflection).

The archive knows nothing of reinforcement learning: names of metrics and series are the backend's.
Every class here is frozen and turns into plain JSON or YAML data by `to_data` and back by `from_data`, which checks
every type: it raises a ValueError where the data are not such an entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from poise_git.archive.codec import Entry
from poise_git.archive.facts import ReflectionFacts

ROOT = "grpo"
SCHEMA_VERSION = 1


# What was paid or used up: a negative one would be a budget for more.
Spent = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0)]


class Status(StrEnum):
    PENDING = "pending"
    EVALUATED = "evaluated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Estimate(Entry):
    """A mean over `n` independent runs with its standard error (None where n < 2).

    `interval` is half the width of its 95% interval; differences have one, where their noise is known.
    """

    OMITTED: ClassVar[frozenset[str]] = frozenset({"interval"})

    value: float
    se: float | None
    n: int
    interval: float | None = None


@dataclass(frozen=True, slots=True)
class Claim(Entry):
    """One falsifiable statement of a proposal and the check that decides it.

    `check` is the check's name and `arguments` its arguments; the pipeline and the analysis know the names.
    """

    statement: str
    check: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Direction(Entry):
    """Where one of a parent's N proposals is sent, so that the N differ by construction.

    `kind` says what `name` is a name of (the search knows the kinds), `reason` why it was chosen; `departure` is the
    agent's reason for going elsewhere all the same, "" where the proposal keeps to it.
    """

    OMITTED: ClassVar[frozenset[str]] = frozenset({"departure"})

    kind: str
    name: str
    reason: str = ""
    departure: str = ""


@dataclass(frozen=True, slots=True)
class Proposal(Entry):
    """z: a change of mechanism, before anybody has written it.

    `plan` is what the proposing agent's own implement operator needs; nobody else reads it.
    `second_parent` is set for a crossover only. `direction` is None where nobody sent it anywhere.
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
        # Not super(): `slots` makes a new class, which a bare `super` does not know.
        return {"version": SCHEMA_VERSION, **Entry.to_data(self)}


@dataclass(frozen=True, slots=True)
class Isolation(Entry):
    """How a run's candidate was kept apart from the trainer that measured it.

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
    `curve` what was evaluated while training ({"step": int, metric: value, ...} each). `isolation` is None in
    archives that were written before it was recorded.
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
        # Archives hold the isolation first.
        return {name: data[name] for name in sorted(data, key=lambda name: name != "isolation")}


class Outcome(StrEnum):
    """What came of training a run again."""

    EQUAL = "equal"
    WITHIN_NOISE = "within noise"
    DIFFERS = "differs"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Reproduction(Entry):
    """One archived run, trained again: the same recipe, protocol and seed.

    `figure` is the first that differs, "" where all are equal to the last bit; `before` and `again` are its values.
    `utility_apart` is how much U has changed, `allowed` how much noise explains (None: unknown). `torch` and
    `processor` are those of the machine that compared; of the archived run nobody wrote them down.
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
        """Whether noise does not explain the difference. Other last bits are no proof of forging: machines round."""
        known = self.utility_apart is not None and self.allowed is not None
        return self.outcome is Outcome.DIFFERS and known and not abs(self.utility_apart or 0.0) <= (self.allowed or 0.0)


@dataclass(frozen=True, slots=True)
class Call(Entry):
    """One paid call that an agent made for a candidate: an entry of its ledger.

    `key` names the call within the archive, `subject` the candidate or proposal that it was for ("" where it was for a
    whole round), `prompt` is the git blob id of the prompt template. `input_tokens` were neither read from the prompt
    cache (`cached_tokens`) nor written to it (`written_tokens`). `usd` is None where the model has no price, `seconds`
    the latency; `outcome` says what came of it ("ok", or a failure by name); `replayed`: answered from a recording.
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
    """A constraint of the objective that a candidate breaks: what is bounded, how, and how far beyond that it is."""

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
    """y: what is known of a candidate's quality under one protocol, or why nothing is.

    `utility` is U(y); `gain` is the mean difference from the root, paired by seed (None for the root itself);
    `values` holds one estimate per suite, `further` one of each other metric that the objective counts, `details` the
    suites' other figures, `dynamics` what training was like towards its end (series -> mean over seeds and regimes).
    `objective` is the fingerprint of what U was computed by ("" where nobody wrote it down), `violations` the
    constraints it breaks. `calls` is the ledger: what the agent's calls cost, `usd` their sum (in a note, that alone).
    `algorithm` is the git blob of the `recipe/algorithm.py` that all this is of (12 digits); the archive fills it in.
    For a failed candidate `stage` and `reason` say what happened, and the rest is empty.
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
        """What others have paid for, whose recording was replayed, is in the ledger and not in the sum."""
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
    """One algorithm as the archive's refs, commits and metric notes tell it; nothing here is read from YAML.

    `parents` are candidate names (none for the root, two for a crossover); `evidence` is the tip of
    `evidence/<name>`; `metrics` is the latest of every protocol seen, by protocol hash. `claimed` are the
    parents that the commit's trailers name; what counts is the commit graph.
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
