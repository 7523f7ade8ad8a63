"""Render a context as the text of a prompt, and count its tokens."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, groupby

from poise_git.search.context.context import Context, Item, Kind
from poise_git.untrusted.display import visible
from poise_git.untrusted.template import fill_template

# A token is about four characters of English or code. No model's tokenizer is needed.
CHARACTERS_PER_TOKEN = 4
QUOTES_REMEMBERED = 1024
FILE = "prompts/context.md.j2"

# The items that a budget drops, line by line: of each kind, the least important first, until the given number is left.
# The directive, the objective, this round's rejections, and the parent's code, proposal and metrics always stay.
DROP_ORDER: tuple[tuple[Kind, int], ...] = (
    (Kind.CARD, 8),
    (Kind.EXPLORATORY, 0),
    (Kind.SIBLING, 8),
    (Kind.FAILURE, 2),
    (Kind.RELATED, 0),
    (Kind.COMPLEMENTARY, 0),
    (Kind.LINEAGE, 2),
    (Kind.PRINCIPLE, 0),
    (Kind.CARD, 0),
    (Kind.SIBLING, 0),
    (Kind.FAILURE, 0),
    (Kind.PARETO, 0),
    (Kind.LINEAGE, 0),
    (Kind.TRAJECTORY, 0),
    (Kind.REFLECTION, 0),
)


# The contexts of a round share most of their items.
@lru_cache(QUOTES_REMEMBERED)
def quoted(text: str) -> str:
    """The text as data: inside fences longer than any run of backticks in it, with control characters made visible.

    No line of the text can close the fence, even if the text is hostile.
    """
    plain = visible(text).strip("\n")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", plain)), default=0))
    return f"{fence}\n{plain}\n{fence}"


def tokens(text: str) -> int:
    """An estimate: one token per four characters."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class Renderer:
    """Render a context with a template, within the limits of `untrusted.template`.

    The template gets `parent`, a name; `groups`, a list of (kind, [(name, reason, text), ...]) with quoted texts;
    `dropped`, a list of (kind, names); and the `budget`. It has access to nothing else.
    """

    source: str

    def render(self, context: Context) -> str:
        return self._fill(context, {item.text: quoted(item.text) for item in context.items})

    def within_budget(self, context: Context) -> Context:
        """The context with items dropped in `DROP_ORDER` until its text fits the budget.

        If that is impossible, every item that may be dropped is dropped.
        """
        texts = {item.text: quoted(item.text) for item in context.items}
        order = _droppable(context.items)
        sizes = [len(texts[context.items[place].text]) + len(context.items[place].reason) for place in order]
        length = len(self._fill(context, texts))

        def fits(count: int) -> bool:
            return tokens(self._fill(_without(context, order[:count]), texts)) <= context.budget

        if length <= context.budget * CHARACTERS_PER_TOKEN:
            return context
        # Dropping an item shortens the text by about its own size. Start with that estimate, then find the exact
        # number.
        excess = length - context.budget * CHARACTERS_PER_TOKEN
        gone = list(accumulate(sizes))
        count = bisect_left(gone, excess)
        while count < len(order) and not fits(count):
            count += 1
        while count > 1 and fits(count - 1):
            count -= 1
        return _without(context, order[:count])

    def _fill(self, context: Context, texts: Mapping[str, str]) -> str:
        groups = [
            (str(kind), [(item.name, item.reason, texts[item.text]) for item in items])
            for kind, items in groupby(context.items, key=lambda item: item.kind)
        ]
        dropped = [
            (str(kind), [item.name for item in items])
            for kind, items in groupby(context.dropped, key=lambda item: item.kind)
        ]
        name = context.parent.candidate.name
        values = {"parent": name, "groups": groups, "dropped": dropped, "budget": context.budget}
        return fill_template(self.source, FILE, values, {"quoted": quoted})


def _droppable(items: tuple[Item, ...]) -> list[int]:
    """Places of items in the order in which they are dropped."""
    order: list[int] = []
    for kind, kept in DROP_ORDER:
        left = [place for place, item in enumerate(items) if item.kind is kind and place not in order]
        if kind is Kind.LINEAGE:
            # The root and the parent's own parent are the most informative, so the middle goes first.
            ends = (*left[:1], *left[-1:])
            left = sorted(left, key=lambda place: min(abs(place - end) for end in ends))
        order += reversed(left[kept:])
    return order


def _without(context: Context, places: list[int]) -> Context:
    gone = frozenset(places)
    return replace(
        context,
        items=tuple(item for place, item in enumerate(context.items) if place not in gone),
        dropped=tuple(item for place, item in enumerate(context.items) if place in gone),
    )
