"""All possible changes of a parent: every change of mechanism that the cards and the archive offer."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from poise_git.agents.library import mechanisms
from poise_git.agents.library.mechanisms import Mechanism
from poise_git.search.context.context import REFERENCES, CandidateRecord, Context, Kind
from poise_git.search.literature import Card, Knob
from poise_git.untrusted.data import mapping

# Knobs whose range spans at least this factor move on a logarithmic scale.
LOGARITHMIC_SPAN = 8.0
# The step of a knob, as a share of its range.
STEP = (0.15, 0.5)
# A card may replace at most this many mechanisms.
REPLACEABLE = 2


class Operation(StrEnum):
    ADD = "add"
    REPLACE = "replace"
    MUTATE = "mutate"
    REMOVE = "remove"
    BORROW = "borrow"


@dataclass(frozen=True)
class Idea:
    """One change: `card` is added (replacing the cards `replaced`), is removed, or gets other `knobs`.

    `lender` is the candidate that a borrowed mechanism comes from.
    """

    operation: Operation
    card: Card
    knobs: Mapping[str, float] = field(default_factory=dict)
    replaced: tuple[Card, ...] = ()
    lender: CandidateRecord | None = None

    def plan(self) -> dict[str, Any]:
        """The plan for `implement`, as plain data; `idea_of` reads it."""
        plan: dict[str, Any] = {"operation": str(self.operation), "card": self.card.name, "knobs": dict(self.knobs)}
        if self.replaced:
            plan["replaced"] = [card.name for card in self.replaced]
        if self.lender:
            plan["lender"] = self.lender.candidate.name
        return plan

    def apply(self, source: str, root: str) -> str:
        """The child's text.

        Raises:
            CheckFailed: `implement`, when the change does not fit the parent.
        """
        if self.operation is Operation.MUTATE:
            return mechanisms.set_knobs(source, self.card, self.knobs)
        if self.operation is Operation.REMOVE:
            return mechanisms.uninstall(source, self.card, root)
        for card in self.replaced:
            source = mechanisms.uninstall(source, card, root)
        return mechanisms.install(source, self.card, self.knobs)


def idea_of(plan: Mapping[str, Any], cards: Iterable[Card]) -> Idea:
    """The idea behind `plan`.

    Raises KeyError or ValueError if the plan is not one of ours, or a card that it names is gone.
    """
    by_name = {card.name: card for card in cards}
    return Idea(
        operation=Operation(plan["operation"]),
        card=by_name[plan["card"]],
        knobs={str(name): float(value) for name, value in mapping(plan["knobs"]).items()},
        replaced=tuple(by_name[name] for name in plan.get("replaced", ())),
    )


def all_ideas(context: Context, present: tuple[Mechanism, ...], generator: random.Random) -> list[Idea]:
    """All ideas for the parent, in a fixed order, except those that were tried or rejected."""
    name = context.parent.candidate.name
    children = (known for known in context.known(Kind.SIBLING, Kind.FAILURE) if name in known.candidate.parents)
    tried = {_key(child.proposal.plan) for child in children if child.proposal}
    tried |= {_key(entry.proposal.plan) for entry in context.rejected}
    own_plan = context.parent.proposal.plan if context.parent.proposal else {}
    ideas: dict[tuple[Any, ...], Idea] = {}
    for idea in (*_borrow(context, present), *_install(context, present), *_tune(present, generator)):
        undoes = idea.operation is Operation.REMOVE and own_plan.get("card") == idea.card.name
        key = _key(idea.plan())
        if key not in tried and not undoes:
            ideas.setdefault(key, idea)
    return list(ideas.values())


def _key(plan: Mapping[str, Any]) -> tuple[Any, ...]:
    """The identity of a change of one parent, which does not depend on the lender. The plan is untrusted."""
    installs = plan.get("operation") not in (Operation.MUTATE, Operation.REMOVE)
    operation = "install" if installs else plan.get("operation")
    knobs = plan.get("knobs")
    values = (
        {name: float(value) if isinstance(value, int | float) else str(value) for name, value in knobs.items()}
        if isinstance(knobs, Mapping)
        else {}
    )
    return str(operation), str(plan.get("card")), tuple(sorted(values.items(), key=lambda pair: pair[0]))


def _install(context: Context, present: tuple[Mechanism, ...]) -> Iterator[Idea]:
    for card in context.cards:
        if card.edits and not any(mechanism.card.name == card.name for mechanism in present):
            idea = _installing(card, _defaults(card), present)
            if idea:
                yield idea


def _borrow(context: Context, present: tuple[Mechanism, ...]) -> Iterator[Idea]:
    """Mechanisms, with their knobs, that candidates better than the root have and the parent lacks."""
    by_name = {card.name: card for card in context.cards if card.edits}
    for known in context.known(*REFERENCES):
        if known.proposal is None or known.metrics is None or known.metrics.gain is None:
            continue
        if known.metrics.gain.value <= 0:
            continue
        plan = known.proposal.plan
        card = by_name.get(str(plan.get("card")))
        if card is None or plan.get("operation") == Operation.REMOVE:
            continue
        if any(mechanism.card.name == card.name for mechanism in present):
            continue
        lent = {name: known.proposal.knobs.get(_knob_name(knob), knob.default) for name, knob in card.knobs.items()}
        idea = _installing(card, lent, present)
        if idea:
            yield Idea(Operation.BORROW, card, idea.knobs, idea.replaced, known)


def _installing(card: Card, knobs: Mapping[str, float], present: tuple[Mechanism, ...]) -> Idea | None:
    replaced = tuple(other.card for other in present if mechanisms.conflict(card, other.card))
    if len(replaced) > REPLACEABLE:
        return None
    return Idea(Operation.REPLACE if replaced else Operation.ADD, card, knobs, replaced)


def _tune(present: tuple[Mechanism, ...], generator: random.Random) -> Iterator[Idea]:
    for mechanism in present:
        for name, value in mechanism.knobs.items():
            moved = move_knob(mechanism.card.knobs[name], value, generator)
            if moved is not None:
                yield Idea(Operation.MUTATE, mechanism.card, {name: moved})
        if len(present) > 1:
            yield Idea(Operation.REMOVE, mechanism.card)


def move_knob(knob: Knob, value: float, generator: random.Random) -> float | None:
    """A value at a distance from `value` within the knob's range, rounded to two digits; None if there is no other.

    Equal steps are equal ratios if the range is positive and wide, and equal differences otherwise.
    """
    logarithmic = knob.low > 0 and knob.high / knob.low >= LOGARITHMIC_SPAN
    low, high, here = (math.log(x) if logarithmic else x for x in (knob.low, knob.high, max(value, knob.low)))
    here = min(here, high)
    reach = generator.uniform(*STEP) * (high - low)
    targets = [there for there in (here - reach, here + reach) if low <= there <= high] or [low, high]
    target = generator.choice(targets)
    moved = float(f"{math.exp(target) if logarithmic else target:.2g}")
    if isinstance(value, int):
        moved = round(moved) if round(moved) != value else value + (1 if target > here else -1)
    moved = min(max(moved, knob.low), knob.high)
    return None if moved == value else moved


def _defaults(card: Card) -> dict[str, float]:
    return {name: knob.default for name, knob in card.knobs.items()}


def _knob_name(knob: Knob) -> str:
    return f"{knob.function}.{knob.argument}"


def knob_table(present: Iterable[Mechanism]) -> dict[str, float]:
    """Every knob of the mechanisms with its value, as `function.argument`."""
    return {
        _knob_name(mechanism.card.knobs[name]): float(value)
        for mechanism in present
        for name, value in mechanism.knobs.items()
    }
