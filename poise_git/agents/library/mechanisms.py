"""Find the literature mechanisms in an algorithm from its code alone, so that it works for any author's code."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from poise_git.agents.library import surgery
from poise_git.search.literature import Card, Edit


@dataclass(frozen=True)
class Mechanism:
    """A card found in an algorithm; `knobs` holds the current values by name."""

    card: Card
    knobs: Mapping[str, float]


def mechanisms(text: str, cards: Iterable[Card]) -> tuple[Mechanism, ...]:
    """The cards whose edits are all in `text`, with any values of their knobs.

    A card is left out if another card that is present includes it: no-std is part of leave-one-out. A card that only
    sets defaults counts if one of its knobs is off its neutral value and no other card owns that default.
    """
    shown = [card for card in cards if card.edits and all(shows(text, edit) for edit in card.edits)]
    bodies = {card.name: {_signature(edit) for edit in card.edits if edit.set is None} for card in shown}
    whole = [
        card
        for card in shown
        if bodies[card.name] and not any(bodies[card.name] < bodies[other.name] for other in shown)
    ]
    settings = [
        card
        for card in shown
        if not bodies[card.name] and _is_off_neutral(text, card) and not any(conflict(card, other) for other in whole)
    ]
    return tuple(Mechanism(card, knob_values(text, card)) for card in (*whole, *settings))


def conflict(left: Card, right: Card) -> bool:
    """Whether the two cannot be in one algorithm."""
    if left.name == right.name or left.name in right.conflicts or right.name in left.conflicts:
        return True
    return any(_collide(one, other) for one in left.edits for other in right.edits)


def shows(text: str, edit: Edit) -> bool:
    """Whether the text contains the result of an edit, with any values of the defaults."""
    functions = surgery.functions(text)
    if edit.stage not in functions:
        return False
    if edit.replace is not None:
        stage = _without_calls(functions[edit.stage], edit.stage, surgery.chained(text, edit.stage))
        return stage == _normal(surgery.functions(edit.replace)[edit.stage])
    if edit.add is not None:
        name = surgery.added_name(edit)
        is_called = name in surgery.chained(text, edit.stage)
        return is_called and _normal(functions[name]) == _normal(surgery.functions(edit.add)[name])
    return set(edit.set or {}) <= set(surgery.defaults(text, edit.stage))


def knob_values(text: str, card: Card) -> dict[str, float]:
    """The current value of each knob of a card in `text`."""
    found = surgery.functions(text)
    return {
        name: surgery.defaults(text, knob.function)[knob.argument]
        for name, knob in card.knobs.items()
        if knob.function in found and knob.argument in surgery.defaults(text, knob.function)
    }


def install(text: str, card: Card, knobs: Mapping[str, float] | None = None) -> str:
    """The algorithm with the card's mechanism; its knobs have the given values, or else the card's defaults.

    Raises:
        CheckFailed: `implement`: the mechanism does not fit.
    """
    for edit in card.edits:
        text = surgery.apply_edit(text, edit)
    return set_knobs(text, card, {name: knob.default for name, knob in card.knobs.items()} | dict(knobs or {}))


def uninstall(text: str, card: Card, root: str) -> str:
    """The algorithm without the card's mechanism; its stages are restored from the text `root`."""
    for edit in reversed(card.edits):
        text = surgery.revert_edit(text, edit, root)
    return text


def set_knobs(text: str, card: Card, knobs: Mapping[str, float]) -> str:
    """The algorithm with knobs of an installed card set to other values."""
    for name, value in knobs.items():
        knob = card.knobs[name]
        if surgery.defaults(text, knob.function).get(knob.argument) != value:
            text = surgery.set_defaults(text, knob.function, {knob.argument: value})
    return text


def _is_off_neutral(text: str, card: Card) -> bool:
    values = knob_values(text, card)
    return any(values[name] != knob.neutral for name, knob in card.knobs.items() if name in values)


def _collide(left: Edit, right: Edit) -> bool:
    if left.add is not None and right.add is not None:
        return surgery.added_name(left) == surgery.added_name(right)
    if left.stage != right.stage or left.add is not None or right.add is not None:
        return False
    if left.set is not None and right.set is not None:
        return bool(left.set.keys() & right.set.keys())
    return True


def _signature(edit: Edit) -> tuple[str, str]:
    text = edit.replace if edit.replace is not None else edit.add or ""
    (function,) = surgery.functions(text).values()
    return edit.stage, _normal(function)


def _normal(function: ast.FunctionDef) -> str:
    """A function's code without docstring, comments, layout and default values."""
    arguments = copy.copy(function.args)
    arguments.defaults, arguments.kw_defaults = [], []
    return "\n".join([function.name, ast.dump(arguments), *map(ast.dump, _body(function))])


def _without_calls(function: ast.FunctionDef, stage: str, calls: Sequence[str]) -> str:
    """The normal form of a stage before functions were chained into it."""
    if not calls:
        return _normal(function)
    variable = surgery.CHAINS[stage][0]
    kept = [statement for statement in _body(function) if not _is_chained_call(statement, stage, calls)]
    match kept[-2:]:
        case [ast.Assign(targets=[ast.Name(id=target)], value=value), ast.Return(value=ast.Name(id=returned))]:
            if target == returned == variable:
                kept[-2:] = [ast.Return(value=value)]
    bare = copy.copy(function)
    bare.body = kept
    return _normal(bare)


def _is_chained_call(statement: ast.stmt, stage: str, calls: Sequence[str]) -> bool:
    variable, expression = surgery.CHAINS[stage]
    return ast.unparse(statement) in {f"{variable} = {expression.format(name=name)}" for name in calls}


def _body(function: ast.FunctionDef) -> list[ast.stmt]:
    return function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
