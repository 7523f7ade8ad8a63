"""Which of a parent's N proposals is worth implementing: hard gates by code, four weighted scores, one verdict each.

Novelty is told by code, from what the archive and the journal hold. Consistency, feasibility and expected improvement
are the agent's opinion. What a proposal's code is a copy of shows only once it is written: that gate is the loop's.

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
# Priors and family, and the words in which it is stated.
Mechanism = tuple[frozenset[str], frozenset[str]]


class Verdict(StrEnum):
    CHOSEN = "chosen"
    PASSED = "passed"
    REJECTED = "rejected"


class Gate(StrEnum):
    """Where a proposal was rejected.

    form: its name is taken, no mechanism is stated, or a knob is not a finite number;
    repeated: the same change of the same parent is archived, or was rejected before;
    opinion: the agent advises against it; writing: it cannot be written on this parent;
    twin: its code is a copy of another candidate's.
    """

    FORM = "form"
    REPEATED = "repeated"
    OPINION = "opinion"
    WRITING = "writing"
    TWIN = "twin"


@dataclass(frozen=True)
class Opinion:
    """What an agent makes of a proposal; every score in [0, 1], larger is better.

    consistency: does the mechanism follow from the hypothesis, and can the claims decide it? feasibility: can it be
    written on this parent? improvement: is it expected to raise the objective (0.5: no effect)?
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
    """A proposal with its verdict and why; `score` is 0 and `gate` names what stopped it where it is rejected.

    `attempt` counts from 0: how often the parent had been resampled when this was proposed.
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
        """Journals before version 0.2 have `rejected`, a reason or "", in place of a verdict."""
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
class Past:
    """What proposals are compared with.

    `done`: the fingerprint of every change that is archived, or was rejected for what it is -> the name under which.
    `mechanisms`: every one that was ever proposed, as two sets of words; what other proposals outdid is no news, but
    may come again.
    """

    done: Mapping[str, str] = field(default_factory=dict)
    mechanisms: frozenset[Mechanism] = frozenset()

    def with_archived(self, proposals: Iterable[Proposal]) -> Past:
        """With proposals that are archived, or will be."""
        known = tuple(proposals)
        done = {fingerprint(proposal): proposal.name for proposal in known}
        return Past({**self.done, **done}, self.mechanisms | set(map(mechanism_of, known)))

    def with_screened(self, entries: Iterable[Screened]) -> Past:
        """With proposals that have a verdict."""
        known = tuple(entries)
        done = {
            fingerprint(entry.proposal): entry.proposal.name
            for entry in known
            if entry.verdict is Verdict.REJECTED and entry.gate is not Gate.FORM
        }
        return Past({**done, **self.done}, self.mechanisms | {mechanism_of(entry.proposal) for entry in known})

    def novelty(self, proposal: Proposal) -> float:
        """1 - the largest similarity with a mechanism of the past, in [0, 1].

        The similarity of two is the mean of two Jaccard indices: of what they cite and belong to, and of their words.
        """
        own = mechanism_of(proposal)
        return 1.0 - max(
            ((_jaccard(own[0], other[0]) + _jaccard(own[1], other[1])) / 2.0 for other in self.mechanisms), default=0.0
        )


def screen(
    proposals: Sequence[Proposal],
    opinions: Sequence[Opinion],
    past: Past,
    taken_names: frozenset[str],
    weights: ScreeningWeights,
    attempt: int = 0,
) -> tuple[Screened, ...]:
    """All proposals with verdicts, the best first, the rejected last; none is chosen yet.

    Args:
        proposals: what the agent proposed for one parent.
        opinions: what it makes of each.
        past: what is archived and journalled.
        taken_names: names that are in use.
        weights: of the four scores.
        attempt: how often this parent has been resampled.
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
    """The chosen one, then by score, the rejected last."""
    order = {verdict: place for place, verdict in enumerate(Verdict)}
    return tuple(sorted(screened, key=lambda entry: (order[entry.verdict], -entry.score, entry.proposal.name)))


def weighted(scores: Mapping[str, float], weights: ScreeningWeights) -> float:
    """The weighted mean of the four scores, in [0, 1]."""
    table = weights.model_dump()
    return math.fsum(table[name] * value for name, value in scores.items()) / math.fsum(table.values())


def fingerprint(proposal: Proposal) -> str:
    """What makes two proposals the same: parent, plan and knobs; where there is no plan, the words."""
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
