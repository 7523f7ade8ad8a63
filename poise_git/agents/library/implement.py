"""The implement operator: apply a proposal's plan to the parent's text. Also a few simple repairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from poise_git.agents.library.ideas import idea_of
from poise_git.agents.library.mechanisms import mechanisms, set_knobs
from poise_git.agents.library.surgery import repair_imports
from poise_git.archive.entries import Proposal
from poise_git.errors import CheckFailed
from poise_git.search.context.context import Context
from poise_git.search.literature import Card


@dataclass
class Children:
    """The texts of one parent's children, each made once, because propose, screen and implement need the same texts."""

    _context: Context | None = None
    _texts: dict[str, str] = field(default_factory=dict)

    def text(self, plan: Mapping[str, Any], context: Context) -> str:
        """The child's text: the parent's text changed by the plan.

        Raises:
            CheckFailed: `implement`, when the plan does not fit the parent.
            KeyError, ValueError, TypeError: the plan is not the library's.
        """
        if context is not self._context:
            self._context, self._texts = context, {}
        key = json.dumps(plan, sort_keys=True, default=str)
        if key not in self._texts:
            self._texts[key] = idea_of(plan, context.cards).apply(context.source, context.root_source)
        return self._texts[key]


def implement(proposal: Proposal, context: Context, children: Children) -> str:
    """The child's text.

    Raises:
        CheckFailed: `implement`, when the plan is not the library's, or does not fit the parent.
    """
    try:
        return children.text(proposal.plan, context)
    except (KeyError, ValueError, TypeError) as error:
        raise CheckFailed("implement", f"the plan of {proposal.name} cannot be carried out: {error}") from error


def repair(source: str, failure: CheckFailed, cards: tuple[Card, ...]) -> str | None:
    """The text with missing imports added, or else with knobs moved back into their ranges; None if neither helps."""
    try:
        mended = repair_imports(source)
        if mended != source:
            return mended
        for mechanism in mechanisms(source, cards):
            knobs = mechanism.card.knobs
            bounded = {
                name: min(max(value, knobs[name].low), knobs[name].high) for name, value in mechanism.knobs.items()
            }
            mended = set_knobs(mended, mechanism.card, bounded)
    except CheckFailed:
        return None
    return mended if mended != source else None
