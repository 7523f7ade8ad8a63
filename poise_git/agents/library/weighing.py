"""Weigh ideas: all cards have equal weight until the directive, a diagnosis or evidence distinguishes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from poise_git.agents.library.ideas import Idea, Operation
from poise_git.archive.entries import Status
from poise_git.search.context.context import CandidateRecord, Context
from poise_git.search.context.relevance import relevance, words_of

# The share of each operation among proposals; an operation without ideas leaves its share to the others.
SHARES: Mapping[Operation, float] = {
    Operation.ADD: 0.45,
    Operation.REPLACE: 0.2,
    Operation.MUTATE: 0.2,
    Operation.BORROW: 0.1,
    Operation.REMOVE: 0.05,
}
DIRECTIVE_FACTOR = 8.0
FOCUS_FACTOR = 2.0
# A card that its literature calls bad is seldom tried: as a control, or because a directive asks for it.
KNOWN_BAD_FACTOR = 0.25
KNOWN_BAD = "known-bad"
# A candidate that failed counts as a loss of this many standard errors.
FAILURE_EFFECT = -1.0


@dataclass(frozen=True)
class Experience:
    """The effect of a card in one trial: the change of utility in standard errors, and the place of the trial."""

    candidate: str
    effect: float


def weights(ideas: Iterable[Idea], context: Context) -> dict[int, float]:
    """Position in `ideas` -> weight; operations keep their shares."""
    experiences = experience(context)
    raw = {position: (idea, _weight(idea, context, experiences)) for position, idea in enumerate(ideas)}
    totals: dict[Operation, float] = {}
    for idea, weight in raw.values():
        totals[idea.operation] = totals.get(idea.operation, 0.0) + weight
    return {
        position: SHARES[idea.operation] * weight / totals[idea.operation] for position, (idea, weight) in raw.items()
    }


def experience(context: Context) -> dict[str, tuple[Experience, ...]]:
    """Card name -> its trials in this archive, from all items of the context."""
    found: dict[str, dict[str, Experience]] = {}
    for known in _everybody(context):
        effect = _effect(known)
        if effect is None:
            continue
        plan = known.proposal.plan if known.proposal else {}
        if plan.get("operation") == Operation.MUTATE:
            continue
        # A loss after removing a mechanism is evidence for the mechanism.
        sign = -1.0 if plan.get("operation") == Operation.REMOVE else 1.0
        name = known.candidate.name
        for card in known.candidate.priors:
            found.setdefault(card, {})[name] = Experience(name, sign * effect)
    return {card: tuple(by_candidate.values()) for card, by_candidate in found.items()}


def _weight(idea: Idea, context: Context, experiences: Mapping[str, tuple[Experience, ...]]) -> float:
    """2^(z/2) times the fit; z is the mean effect in standard errors, shrunk by one pseudo-observation of 0."""
    effects = [entry.effect for entry in experiences.get(idea.card.name, ())]
    shrunk = sum(effects) / (len(effects) + 1.0)
    weight = float(2.0 ** (max(-4.0, min(4.0, shrunk)) / 2.0))
    if idea.operation is Operation.REMOVE:
        return 1.0 / weight
    weight *= 1.0 + (DIRECTIVE_FACTOR - 1.0) * relevance(idea.card, words_of(context.directive))
    weight *= 1.0 + (FOCUS_FACTOR - 1.0) * relevance(idea.card, _focus(context.parent))
    return weight * (KNOWN_BAD_FACTOR if KNOWN_BAD in idea.card.tags else 1.0)


def _focus(parent: CandidateRecord) -> frozenset[str]:
    """The weak spots that the parent's reflection names."""
    return frozenset(parent.reflection.facts.focus if parent.reflection else ())


def _effect(known: CandidateRecord) -> float | None:
    """The change of utility in standard errors, against the parent if the reflection has it, else against the root."""
    if known.metrics is None:
        return None
    if known.metrics.status is Status.FAILED:
        return FAILURE_EFFECT
    row = known.reflection.facts.utility_change if known.reflection else None
    if row:
        value, error = row.difference, row.se
    elif known.metrics.gain:
        value, error = known.metrics.gain.value, known.metrics.gain.se
    else:
        return None
    if error is None or error <= 0:
        return (value > 0) - (value < 0)
    return max(-4.0, min(4.0, value / error))


def _everybody(context: Context) -> Iterator[CandidateRecord]:
    yield context.parent
    yield from context.known()
