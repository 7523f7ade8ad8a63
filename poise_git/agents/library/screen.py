"""The screen operator: the library agent scores a proposal by rules.

consistency    The mean of three marks: a claim states the direction of the utility; code decides a claim before
               training; a claim is about another figure, which shows whether the mechanism helped for another reason
               (the regime of the proposal's direction does not count).
               Two effect claims that contradict each other: 0, and the proposal is not accepted.
feasibility    1 if the plan fits the parent, less 0.25 for each mechanism that it replaces. If it does not fit: 0, and
               the proposal is not accepted.
improvement    0.5 + 0.5 tanh(m). m is the mean gain over their parents of all candidates that cite the same prior, in
               units of the noise, shrunk by one pseudo-observation of 0, so that one lucky candidate does not decide.
               The relevance of the prior's card to the directive adds up to half a unit to m.
"""

from __future__ import annotations

import math

from poise_git.agents.library.ideas import Operation
from poise_git.agents.library.implement import Children, implement
from poise_git.archive.entries import Proposal
from poise_git.errors import CheckFailed
from poise_git.search.context.context import Context
from poise_git.search.context.relevance import relevance, words_of
from poise_git.search.proposals.screening import Opinion

REPLACING = 0.25
# The expected extra gain of a card that matches the directive, in units of the noise.
DIRECTED = 0.5
EFFECT, UTILITY = "effect", "utility"


def opinion(proposal: Proposal, context: Context, children: Children) -> Opinion:
    """The scores, the verdict, and the reason in one line."""
    consistency, about_claims = _consistency(proposal)
    feasibility, about_writing = _feasibility(proposal, context, children)
    improvement, about_relatives = _improvement(proposal, context)
    accepted = consistency > 0.0 and feasibility > 0.0
    reasons = (about_claims, about_writing, about_relatives) if accepted else (
        *([about_claims] if consistency == 0.0 else []), *([about_writing] if feasibility == 0.0 else []),
    )  # fmt: skip
    return Opinion(consistency, feasibility, improvement, accepted, "; ".join(reasons))


def _consistency(proposal: Proposal) -> tuple[float, str]:
    effects = [claim.arguments for claim in proposal.claims if claim.check == EFFECT]
    ways: dict[str, set[str]] = {}
    for arguments in effects:
        ways.setdefault(str(arguments.get("figure")), set()).add(str(arguments.get("direction")))
    torn = sorted(figure for figure, directions in ways.items() if len(directions) > 1)
    if torn:
        return 0.0, f"its claims on {torn[0]} contradict each other"
    lacking = {
        "the direction of the utility": UTILITY not in ways,
        "anything that code decides": len(effects) == len(proposal.claims),
        "a figure of its own": not ways.keys() - {UTILITY, proposal.direction.name if proposal.direction else ""},
    }
    missing = [what for what, is_missing in lacking.items() if is_missing]
    if len(missing) == len(lacking):
        return 0.0, "no claim can test it"
    score = 1.0 - len(missing) / len(lacking)
    return score, f"no claim on {' or '.join(missing)}" if missing else "its claims can test it"


def _feasibility(proposal: Proposal, context: Context, children: Children) -> tuple[float, str]:
    try:
        implement(proposal, context, children)
    except CheckFailed as failure:
        return 0.0, f"cannot be written: {failure.reason}"
    replaced = len(proposal.plan.get("replaced", ()))
    if replaced:
        return max(1.0 - REPLACING * replaced, 0.25), f"replaces {' and '.join(proposal.plan['replaced'])}"
    return 1.0, "fits the parent unchanged"


def _improvement(proposal: Proposal, context: Context) -> tuple[float, str]:
    gains = [gain for prior in proposal.priors for gain in context.effects.get(prior, ())]
    removed = proposal.plan.get("operation") == Operation.REMOVE
    words = words_of(context.directive)
    cited = [card for card in context.cards if card.name in proposal.priors] if words else []
    asked = DIRECTED * max((relevance(card, words) for card in cited), default=0.0)
    expected = (-1.0 if removed else 1.0) * (math.fsum(gains) / (len(gains) + 1.0) + asked)
    what = (
        f"{len(gains)} related candidates, expected gain {expected:+.1f} in units of the noise"
        if gains
        else "no related candidates yet"
    )
    return 0.5 + 0.5 * math.tanh(expected), f"{what}; its card matches the directive" if asked else what
