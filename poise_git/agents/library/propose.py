"""The propose operator: weigh all ideas, draw one per direction, and write each as a falsifiable proposal."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from poise_git.agents.library import Library, naming, surgery
from poise_git.agents.library.fitting import fit
from poise_git.agents.library.ideas import Idea, Operation, all_ideas, knob_table
from poise_git.agents.library.implement import Children
from poise_git.agents.library.mechanisms import Mechanism, mechanisms, uninstall
from poise_git.agents.library.weighing import experience, weights
from poise_git.archive.entries import Claim, Direction, Proposal
from poise_git.errors import CheckFailed
from poise_git.search.context.context import Context
from poise_git.search.context.relevance import relevance, words_of
from poise_git.search.literature import Card, CardClaim
from poise_git.search.proposals.directions import DirectionKind
from poise_git.untrusted import source_text

ADVANTAGE_STAGES = frozenset(("reward_signal", "baseline", "scale", "shape_advantages"))
# Claims about all advantages of a batch. A combination of cards can make such a claim only if each card makes it.
PROPERTIES = frozenset(("order", "zero-mean"))


def propose(context: Context, directions: Sequence[Direction], seed: int, children: Children) -> tuple[Proposal, ...]:
    """One proposal per direction while there are ideas. They depend only on the context, directions and seed."""
    generator = random.Random(seed)
    present = mechanisms(context.source, context.cards)
    ideas = all_ideas(context, present, generator)
    explained = _is_explained(context, present)
    drawing = _Drawing(context, ideas, weights(ideas, context), generator, children)
    taken = set(context.taken_names)
    proposals: list[Proposal] = []
    for direction in directions:
        if drawn := drawing.draw(direction, directions):
            idea, child, kept = drawn
            proposal = _proposal(idea, child, context, present, taken, explained)
            claims = (*_raised(kept), *proposal.claims)
            proposals.append(replace(proposal, direction=kept, claims=claims))
            taken.add(proposals[-1].name)
    return tuple(proposals)


@dataclass
class _Drawing:
    """The remaining ideas, drawn by weight, each at most once."""

    context: Context
    ideas: Sequence[Idea]
    weights: dict[int, float]
    generator: random.Random
    children: Children

    def draw(self, direction: Direction, others: Sequence[Direction]) -> tuple[Idea, str, Direction] | None:
        """An idea with the child's text, and its direction or departure; None if no idea is left."""
        if found := self._draw(lambda idea: fit(idea, direction, self.context)):
            return *found, direction
        # If possible, leave the direction for one that no other proposal has.
        found = self._draw(lambda idea: float(not any(fit(idea, other, self.context) for other in others)))
        found = found or self._draw(lambda idea: 1.0)
        departure = f"no untried idea in {direction.kind} {direction.name} fits this parent"
        return (*found, replace(direction, departure=departure)) if found else None

    def _draw(self, factor: Callable[[Idea], float]) -> tuple[Idea, str] | None:
        open_weights = {
            place: weight * share
            for place, weight in self.weights.items()
            if (share := factor(self.ideas[place])) > 0.0
        }
        while open_weights:
            place = self.generator.choices(list(open_weights), list(open_weights.values()))[0]
            del open_weights[place], self.weights[place]
            # The card may not fit a parent that a person wrote.
            with suppress(CheckFailed):
                return self.ideas[place], self.children.text(self.ideas[place].plan(), self.context)
        return None


def _proposal(
    idea: Idea, child: str, context: Context, present: tuple[Mechanism, ...], taken: set[str], explained: bool
) -> Proposal:
    after = mechanisms(child, context.cards)
    return Proposal(
        name=_name(idea, context.parent.candidate.name, taken),
        parent=context.parent.candidate.name,
        mechanism=_mechanism(idea, present),
        hypothesis=_hypothesis(idea, context),
        family=idea.card.family,
        agent=Library.name,
        knobs=knob_table(after),
        claims=(*_claims(idea, context, after, explained), _rises()),
        priors=(idea.card.name,),
        plan=idea.plan(),
    )


def _name(idea: Idea, parent: str, taken: set[str]) -> str:
    if idea.operation is Operation.MUTATE:
        return naming.tuned(parent, next(iter(idea.knobs)), taken)
    if idea.operation is Operation.REMOVE:
        return naming.unique(naming.without(parent, [idea.card.short]), taken)
    return naming.unique(naming.extended(parent, idea.card.short, (card.short for card in idea.replaced)), taken)


def _mechanism(idea: Idea, present: tuple[Mechanism, ...]) -> str:
    """The change in one line."""
    if idea.operation is Operation.MUTATE:
        ((knob, value),) = idea.knobs.items()
        before = next(mechanism.knobs[knob] for mechanism in present if mechanism.card.name == idea.card.name)
        return f"{knob} of {idea.card.name} from {before:g} to {value:g}"
    if idea.operation is Operation.REMOVE:
        return f"without {idea.card.name}"
    title = idea.card.title
    if idea.lender:
        title = f"{title}, as in {idea.lender.candidate.name}"
    return f"{title}, instead of {_names(idea.replaced)}" if idea.replaced else title


def _hypothesis(idea: Idea, context: Context) -> str:
    """Prose: the mechanism, why it should help here, earlier results, and the risks."""
    card, parent = idea.card, context.parent
    sentences = [f"{card.mechanism} In formula: {card.formula} ({card.source})."]
    if idea.operation is Operation.MUTATE:
        sentences.append("Change a knob to learn how much the mechanism depends on it.")
    elif idea.operation is Operation.REMOVE:
        sentences = [f"Remove one mechanism from the parent to learn its contribution: {sentences[0]}"]
    else:
        sentences += [f"When it helps: {_sentence(card.helps)}", f"Risks: {_sentence(card.risks)}"]
    if parent.metrics and parent.metrics.utility:
        utility = parent.metrics.utility
        error = f" ± {utility.se:.3f}" if utility.se is not None else ""
        sentences.append(f"The parent {parent.candidate.name} has U = {utility.value:.3f}{error}.")
    known = experience(context).get(card.name, ())
    if known:
        tried = ", ".join(f"{entry.effect:+.1f} in {entry.candidate}" for entry in known)
        sentences.append(f"Earlier results in this archive, in standard errors of utility: {tried}.")
    if context.directive and relevance(card, words_of(context.directive)) > 0:
        sentences.append(f"It matches the directive “{context.directive.strip()}”.")
    return " ".join(sentences)


def _claims(idea: Idea, context: Context, after: tuple[Mechanism, ...], explained: bool) -> list[Claim]:
    """The claims of the card that apply to this child; `explained` says that only cards changed its parent."""
    if idea.operation is Operation.MUTATE:
        (name,) = idea.knobs
        knob = idea.card.knobs[name]
        value = surgery.defaults(context.source, knob.function)[knob.argument]
        arguments = {"function": knob.function, "argument": knob.argument, "value": value}
        return [Claim(f"At {knob.argument} = {value:g} it equals the parent.", "reduction", arguments)]
    if idea.operation is Operation.REMOVE:
        return []
    return [
        _filled(claim, idea)
        for claim in idea.card.claims
        if claim.check not in PROPERTIES | {"reduction"}
        or (claim.check in PROPERTIES and explained and _all_claim(claim, after))
        or (claim.check == "reduction" and explained and not idea.replaced)
    ]


def _is_explained(context: Context, present: tuple[Mechanism, ...]) -> bool:
    """Whether the parent consists of the root and mechanisms of cards only."""
    text = context.source
    try:
        for mechanism in reversed(present):
            text = uninstall(text, mechanism.card, context.root_source)
        return ast.dump(source_text.parse(text)) == ast.dump(source_text.parse(context.root_source))
    except (CheckFailed, source_text.SourceRefused):
        return False


def _all_claim(claim: CardClaim, after: tuple[Mechanism, ...]) -> bool:
    """Whether every mechanism that changes advantages makes the same claim."""
    touching = [
        mechanism.card for mechanism in after if any(edit.stage in ADVANTAGE_STAGES for edit in mechanism.card.edits)
    ]
    return all(any(_same(claim, other) for other in card.claims) for card in touching)


def _same(claim: CardClaim, other: CardClaim) -> bool:
    return claim.check == other.check and claim.arguments == other.arguments


def _filled(claim: CardClaim, idea: Idea) -> Claim:
    """Fill in the knob values for `{knob}`."""
    arguments = {name: _fill(value, idea.knobs) for name, value in claim.arguments.items()}
    return Claim(claim.statement.format_map(idea.knobs), claim.check, arguments)


def _fill(value: Any, knobs: Mapping[str, float]) -> Any:
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        return knobs[value[1:-1]]
    return value


def _raised(direction: Direction) -> Iterator[Claim]:
    """A refutable claim about the regime, if the proposal stayed in its direction."""
    if direction.kind == DirectionKind.REGIME and not direction.departure:
        arguments = {"figure": direction.name, "direction": "up"}
        yield Claim(f"The figure of {direction.name} rises against the parent.", "effect", arguments)


def _rises() -> Claim:
    return Claim("Utility rises against the parent.", "effect", {"figure": "utility", "direction": "up"})


def _names(cards: tuple[Card, ...]) -> str:
    return " and ".join(card.name for card in cards)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
