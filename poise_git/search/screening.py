"""Which of a parent's N proposals is worth implementing: hard gates first, then three weighted scores.

Gates: the name is free, the mechanism is stated, every knob is a finite number, the same change was not proposed for
this parent before. (Feasibility is a gate too, and the last one, because it takes the agent: see `loop.py`.) Scores,
each in [0, 1]: consistency (are the claims there to test it?), novelty (how unlike what the archive holds?), promise
(did relatives of its mechanism help?).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from poise_git.archive.entries import Proposal

WEIGHTS = {"consistency": 0.35, "novelty": 0.25, "promise": 0.4}


@dataclass(frozen=True)
class Screened:
    """A proposal with its verdict: `rejected` says why it is out ("" if it is in); `score` is 0 where it is."""

    proposal: Proposal
    scores: Mapping[str, float]
    score: float
    rejected: str

    def to_data(self) -> dict[str, object]:
        return {
            "proposal": self.proposal.to_data(),
            "scores": {name: round(value, 4) for name, value in self.scores.items()},
            "score": round(self.score, 4),
            "rejected": self.rejected,
        }


def screen(
    proposals: Sequence[Proposal],
    earlier: Sequence[Proposal],
    taken_names: frozenset[str],
    gains: Mapping[str, float],
    noise: float,
) -> list[Screened]:
    """All proposals with verdicts, the best first, the rejected last.

    Args:
        proposals: what the agent proposed for one parent.
        earlier: every proposal already in the archive or chosen in this round.
        taken_names: names that are in use.
        gains: mean gain over the parent of the archive's candidates, by name.
        noise: the scale on which a gain counts as large (in units of U).
    """
    fingerprints = {_fingerprint(proposal) for proposal in earlier}
    names = set(taken_names)
    screened = []
    for proposal in proposals:
        rejected = _gate(proposal, fingerprints, names)
        fingerprints.add(_fingerprint(proposal))
        names.add(proposal.name)
        scores = {} if rejected else _scores(proposal, earlier, gains, noise)
        score = sum(WEIGHTS[name] * value for name, value in scores.items())
        screened.append(Screened(proposal, scores, score, rejected))
    return sorted(screened, key=lambda entry: (bool(entry.rejected), -entry.score, entry.proposal.name))


def _gate(proposal: Proposal, fingerprints: set[str], names: set[str]) -> str:
    if proposal.name in names:
        return f"the name {proposal.name} is taken"
    if not proposal.mechanism.strip():
        return "no mechanism is stated"
    wrong = sorted(knob for knob, value in proposal.knobs.items() if not math.isfinite(value))
    if wrong:
        return f"knob {wrong[0]} is not a finite number"
    if _fingerprint(proposal) in fingerprints:
        return "the same change of the same parent was proposed before"
    return ""


def _fingerprint(proposal: Proposal) -> str:
    """What makes two proposals the same: parent, plan and knobs; where there is no plan, the words."""
    change = proposal.plan or {"mechanism": proposal.mechanism.strip().lower()}
    return json.dumps([proposal.parent, change, sorted(proposal.knobs.items())], sort_keys=True, default=str)


def _scores(
    proposal: Proposal, earlier: Sequence[Proposal], gains: Mapping[str, float], noise: float
) -> dict[str, float]:
    relatives = [
        gains[other.name]
        for other in earlier
        if other.name in gains and set(other.priors) & set(proposal.priors) and proposal.priors
    ]
    # Shrunk to "no effect" by one pseudo-observation, so that one lucky relative does not decide.
    expected = sum(relatives) / (len(relatives) + 1.0)
    return {
        "consistency": min(len(proposal.claims), 3) / 3.0,
        "novelty": 1.0 - max((_similarity(proposal, other) for other in earlier), default=0.0),
        "promise": 0.5 + 0.5 * math.tanh(expected / noise) if noise > 0 else 0.5,
    }


def _similarity(left: Proposal, right: Proposal) -> float:
    """Jaccard similarity of the words of two mechanisms and of the priors they cite."""
    words = [set(f"{proposal.mechanism} {' '.join(proposal.priors)}".lower().split()) for proposal in (left, right)]
    return len(words[0] & words[1]) / max(len(words[0] | words[1]), 1)
