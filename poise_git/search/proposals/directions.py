"""Directions for the N proposals of one parent, so that they differ by construction.

A direction is a stage of the algorithm, a family of mechanisms, or a regime (a suite of the protocol). Stages and
families are drawn without replacement. The draw favors those that the parent's lineage has changed least, and those
that match the directive:

    w = (1 + 7 relevance) / (1 + touches)²

The regime is the one in which the parent is weakest: furthest below the best candidate in its context, in standard
errors. When no card and no figure gives a distinct direction, the rest are open.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from poise_git.archive.entries import Direction, Estimate
from poise_git.search.context.context import CandidateRecord, Context, Kind
from poise_git.search.context.relevance import relevance, words_of
from poise_git.search.literature import Card

DIRECTIVE_FACTOR = 8.0
# From this relevance on, a reason mentions that the direction matches the directive; a tag of a card is enough.
TOLD = 1.0


class DirectionKind(StrEnum):
    STAGE = "stage"
    FAMILY = "family"
    REGIME = "regime"
    OPEN = "open"


# One regime is enough: the second weakest regime is a weaker reason than a part that no candidate has changed.
TURNS = (DirectionKind.STAGE, DirectionKind.FAMILY, DirectionKind.REGIME)
OPEN = Direction(DirectionKind.OPEN, "any", "no distinct direction is left")


@dataclass(frozen=True)
class _Part:
    """A stage or a family: its cards, and how often the parent's lineage has changed it."""

    kind: DirectionKind
    name: str
    cards: frozenset[str]
    touches: int
    relevance: float

    @property
    def weight(self) -> float:
        return (1.0 + (DIRECTIVE_FACTOR - 1.0) * self.relevance) / (1.0 + self.touches) ** 2

    @property
    def direction(self) -> Direction:
        times = {0: "never changed it", 1: "changed it once"}.get(self.touches, f"changed it {self.touches} times")
        reason = f"the parent's lineage has {times}"
        return Direction(
            self.kind, self.name, f"{reason}; it matches the directive" if self.relevance >= TOLD else reason
        )


def assign_directions(context: Context, count: int, seed: int) -> tuple[Direction, ...]:
    """`count` distinct directions, except open ones; they depend only on the context, `count` and `seed`."""
    generator = random.Random(seed)
    regimes = weakest_first(context)[:1]
    parts = {kind: _parts(context, kind) for kind in (DirectionKind.STAGE, DirectionKind.FAMILY)}
    covered: set[str] = set()
    chosen: list[Direction] = []
    turns = list(TURNS)
    generator.shuffle(turns)
    while len(chosen) < count and (regimes or any(parts.values())):
        for kind in turns:
            if kind is DirectionKind.REGIME and regimes and len(chosen) < count:
                chosen.append(regimes.pop())
            elif parts.get(kind) and len(chosen) < count:
                # A family with a single stage is not a distinct direction once that stage is taken. The same holds
                # for a stage with a single family.
                fresh = [part for part in parts[kind] if not part.cards <= covered] or parts[kind]
                part = generator.choices(fresh, [part.weight for part in fresh])[0]
                parts[kind].remove(part)
                covered |= part.cards
                chosen.append(part.direction)
    return (*chosen, *[OPEN] * (count - len(chosen)))


def weakest_first(context: Context) -> list[Direction]:
    """The regimes in U for which the parent has figures; none if there are fewer than two to compare."""
    own = {name: value for name, value in _values(context.parent).items() if name not in context.unweighted}
    if len(own) < 2:
        return []
    shown = list(context.known())
    found = []
    for name, value in own.items():
        rivals = [(known.candidate.name, other[name]) for known in shown if name in (other := _values(known))]
        leader, best = max(rivals, key=lambda rival: rival[1].value, default=("", value))
        error = (value.se or 0.0) or (best.se or 0.0)
        deficit = best.value - value.value
        if not leader:
            reason = "its lowest figure; no other candidate has one"
        elif deficit > 0:
            reason = f"furthest below the best in the context: {value.value:.4g}, {leader} has {best.value:.4g}"
        else:
            reason = f"its smallest lead: {value.value:.4g}, {leader} has {best.value:.4g}"
        # Without an error or a rival, compare the figures themselves.
        size = deficit / error if error > 0 else deficit
        found.append((-size, value.value, Direction(DirectionKind.REGIME, name, reason)))
    return [direction for *_, direction in sorted(found, key=lambda entry: entry[:2])]


def stages_of(card: Card) -> frozenset[str]:
    """The stage functions that a card changes."""
    return frozenset(card.stages)


def _parts(context: Context, kind: DirectionKind) -> list[_Part]:
    usable = [card for card in context.cards if card.edits]
    names_of: Callable[[Card], Iterable[str]] = (
        stages_of if kind is DirectionKind.STAGE else lambda card: (card.family,)
    )
    words = words_of(context.directive)
    touches = _touches(context, names_of, kind)
    found: dict[str, list[Card]] = {}
    for card in usable:
        for name in sorted(names_of(card)):
            found.setdefault(name, []).append(card)
    return [
        _Part(
            kind,
            name,
            frozenset(card.name for card in cards),
            touches[name],
            max((relevance(card, words) for card in cards), default=0.0) if words else 0.0,
        )
        for name, cards in sorted(found.items())
    ]


def _touches(context: Context, names_of: Callable[[Card], Iterable[str]], kind: DirectionKind) -> Counter[str]:
    """The number of candidates in the parent's lineage, the parent included, that changed each stage or family."""
    by_name = {card.name: card for card in context.cards}
    touches: Counter[str] = Counter()
    for known in (*context.known(Kind.LINEAGE), context.parent):
        cards = [by_name[prior] for prior in known.candidate.priors if prior in by_name]
        names = {name for card in cards for name in names_of(card)}
        touches.update(names | ({known.candidate.family} if kind is DirectionKind.FAMILY else set()))
    return touches


def _values(known: CandidateRecord) -> dict[str, Estimate]:
    return dict(known.metrics.values) if known.metrics else {}
