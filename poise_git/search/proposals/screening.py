"""Screen a parent's N proposals: hard gates by code, four weighted scores, and one verdict each.

Code computes the novelty from the archive and the journal. The agent judges consistency, feasibility and expected
improvement. Duplicates can be found only once a proposal is written, so the loop applies that gate.

    score = Σ w_i s_i / Σ w_i,  s_i in [0, 1],  w in poise.yaml: search.screening
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from poise_git.archive.entries import Proposal
from poise_git.archive.genealogy import own_mechanisms
from poise_git.settings import ScreeningWeights
from poise_git.untrusted.data import mapping

PLACES = 4
# The priors and family of a mechanism, and the words that state it.
Mechanism = tuple[frozenset[str], frozenset[str]]


class Verdict(StrEnum):
    CHOSEN = "chosen"
    PASSED = "passed"
    REJECTED = "rejected"


class Gate(StrEnum):
    """The gate that rejected a proposal.

    form: its name is taken, no mechanism is stated, or a knob is not a finite number;
    repeated: the same change of the same parent is archived, or was rejected before;
    opinion: the agent advises against it; writing: it cannot be written on this parent;
    duplicate: its code is another candidate's.
    """

    FORM = "form"
    REPEATED = "repeated"
    OPINION = "opinion"
    WRITING = "writing"
    DUPLICATE = "duplicate"

    @classmethod
    def _missing_(cls, value: object) -> Gate | None:
        """The name of the last gate in earlier journals."""
        return cls.DUPLICATE if value == "twin" else None


@dataclass(frozen=True)
class Opinion:
    """An agent's opinion on a proposal; every score is in [0, 1], larger is better.

    consistency: does the mechanism follow from the hypothesis, and can the claims test it? feasibility: can it be
    written on this parent? improvement: should it raise the objective (0.5: no effect)?
    """

    consistency: float
    feasibility: float
    improvement: float
    accepted: bool
    reason: str

    def __post_init__(self) -> None:
        for name, score in self.scores.items():
            if not 0.0 <= score <= 1.0:
                raise ValueError(f"{name} = {score:g} is not between 0 and 1")

    @property
    def scores(self) -> dict[str, float]:
        return {"consistency": self.consistency, "feasibility": self.feasibility, "improvement": self.improvement}


@dataclass(frozen=True)
class Screened:
    """A proposal with its verdict and the reason; if it is rejected, `score` is 0 and `gate` names the gate.

    `attempt` is the number of earlier attempts for this parent.
    """

    proposal: Proposal
    verdict: Verdict
    reason: str
    scores: Mapping[str, float]
    score: float
    gate: Gate | None = None
    attempt: int = 0

    def rejected_at(self, gate: Gate, reason: str) -> Screened:
        return replace(self, verdict=Verdict.REJECTED, gate=gate, reason=reason, score=0.0)

    def to_data(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "proposal": self.proposal.to_data(),
            "verdict": str(self.verdict),
            "reason": self.reason,
            "scores": {name: round(value, PLACES) for name, value in self.scores.items()},
            "score": round(self.score, PLACES),
        }
        if self.gate:
            data["gate"] = str(self.gate)
        return data | {"attempt": self.attempt}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Screened:
        """Journals before version 0.2 have `rejected`, a reason or "", instead of a verdict."""
        refused = str(data.get("rejected") or "")
        return cls(
            proposal=Proposal.from_data(data["proposal"]),
            verdict=Verdict(data.get("verdict") or (Verdict.REJECTED if refused else Verdict.PASSED)),
            reason=str(data.get("reason") or refused),
            scores={str(name): float(value) for name, value in mapping(data["scores"]).items()},
            score=float(data["score"]),
            gate=Gate(data["gate"]) if data.get("gate") else None,
            attempt=int(data.get("attempt") or 0),
        )


@dataclass(frozen=True)
class ProposalHistory:
    """The earlier proposals with which new ones are compared.

    `done` maps the fingerprint of every change that is archived, or was rejected for its content, to the proposal's
    name. `mechanisms` holds every mechanism ever proposed, as two sets of words. A proposal that only lost to better
    ones counts as known, but may be proposed again.
    """

    done: Mapping[str, str] = field(default_factory=dict)
    mechanisms: frozenset[Mechanism] = frozenset()

    def with_archived(self, proposals: Iterable[Proposal]) -> ProposalHistory:
        """Add proposals that are archived or will be."""
        known = tuple(proposals)
        done = {fingerprint(proposal): proposal.name for proposal in known}
        return ProposalHistory({**self.done, **done}, self.mechanisms | set(map(mechanism_of, known)))

    def with_screened(self, entries: Iterable[Screened]) -> ProposalHistory:
        """Add proposals that have a verdict."""
        known = tuple(entries)
        done = {
            fingerprint(entry.proposal): entry.proposal.name
            for entry in known
            if entry.verdict is Verdict.REJECTED and entry.gate is not Gate.FORM
        }
        return ProposalHistory(
            {**done, **self.done}, self.mechanisms | {mechanism_of(entry.proposal) for entry in known}
        )

    def novelty(self, proposal: Proposal) -> float:
        """1 - the largest similarity to an earlier mechanism, in [0, 1].

        The similarity is the mean of two Jaccard indices: of priors and family, and of words.
        """
        own = mechanism_of(proposal)
        return 1.0 - max(
            ((_jaccard(own[0], other[0]) + _jaccard(own[1], other[1])) / 2.0 for other in self.mechanisms), default=0.0
        )


def screen(
    proposals: Sequence[Proposal],
    opinions: Sequence[Opinion],
    past: ProposalHistory,
    taken_names: frozenset[str],
    weights: ScreeningWeights,
    attempt: int = 0,
) -> tuple[Screened, ...]:
    """All proposals with verdicts, the best first, the rejected last; none is chosen yet.

    Args:
        proposals: the agent's proposals for one parent.
        opinions: the agent's opinion on each proposal.
        past: the archived and journaled proposals.
        taken_names: names that are in use.
        weights: the weights of the four scores.
        attempt: the number of times that this parent has been resampled.
    """
    done, names = dict(past.done), set(taken_names)
    screened = []
    for proposal, opinion in zip(proposals, opinions, strict=True):
        scores = opinion.scores | {"novelty": past.novelty(proposal)}
        entry = Screened(
            proposal, Verdict.PASSED, opinion.reason, scores, weighted(scores, weights), attempt=attempt
        )  # fmt: skip
        own = fingerprint(proposal)
        if fault := _fault(proposal, names):
            entry = entry.rejected_at(Gate.FORM, fault)
        elif own in done:
            entry = entry.rejected_at(Gate.REPEATED, f"the same change of the same parent as {done[own]}")
        elif not opinion.accepted:
            entry = entry.rejected_at(Gate.OPINION, opinion.reason)
        done.setdefault(own, proposal.name)
        names.add(proposal.name)
        screened.append(entry)
    return best_first(screened)


def best_first(screened: Iterable[Screened]) -> tuple[Screened, ...]:
    """The chosen proposal first, then by score, rejected ones last."""
    order = {verdict: place for place, verdict in enumerate(Verdict)}
    return tuple(sorted(screened, key=lambda entry: (order[entry.verdict], -entry.score, entry.proposal.name)))


def weighted(scores: Mapping[str, float], weights: ScreeningWeights) -> float:
    """The weighted mean of the four scores, in [0, 1]."""
    table = weights.model_dump()
    return math.fsum(table[name] * value for name, value in scores.items()) / math.fsum(table.values())


def fingerprint(proposal: Proposal) -> str:
    """The identity of a proposal: parent, plan and knobs, or its words if it has no plan."""
    change = proposal.plan or {"mechanism": proposal.mechanism.strip().lower()}
    text = json.dumps([proposal.parent, change, sorted(proposal.knobs.items())], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _fault(proposal: Proposal, names: set[str]) -> str:
    if proposal.name in names:
        return f"the name {proposal.name} is taken"
    if not proposal.mechanism.strip():
        return "no mechanism is stated"
    wrong = sorted(knob for knob, value in proposal.knobs.items() if not math.isfinite(value))
    return f"knob {wrong[0]} is not a finite number" if wrong else ""


def mechanism_of(proposal: Proposal) -> Mechanism:
    words = frozenset(map(sys.intern, proposal.mechanism.lower().split()))
    return frozenset(map(sys.intern, own_mechanisms(proposal))), words


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(len(one | other), 1)
