"""A context as text: text from the archive is quoted, so that it cannot pass as ours; a budget drops whole items."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise_git.errors import UsageError
from poise_git.package_data import read_prompt
from poise_git.search.context.context import Context, Item, Kind
from poise_git.search.context.rendering import DROP_ORDER, Renderer, quoted, tokens
from tests import sentences
from tests.agents.library.support import context

RENDERER = Renderer(read_prompt("context.md.j2"))
KEPT = (Kind.DIRECTIVE, Kind.OBJECTIVE, Kind.CODE, Kind.PROPOSAL, Kind.METRICS, Kind.REJECTED)
HOSTILE = st.text(st.sampled_from("`~#\n\r\t \x85\u2028\u202e\u200b\U000e0041\x1bab<>{}%-")) | st.text()


def full(count: int = 12, length: int = 400) -> Context:
    """A context with items of every kind."""
    items = tuple(
        Item(kind, f"{kind}-{number}", "a test", f"{kind} {number} ".ljust(length, "x"))
        for kind in Kind
        for number in range(1 if kind in (*KEPT, Kind.TRAJECTORY, Kind.REFLECTION) else count)
    )
    return replace(context(), items=items)


def closed_by(text: str) -> int:
    """The line on which a Markdown reader sees the first fence of `text` closed (CommonMark 4.5)."""
    lines = re.split(r"\r\n|[\n\r]", text)
    opening = re.fullmatch(r"(`{3,})", lines[0])
    assert opening
    return next(
        number
        for number, line in enumerate(lines[1:], 1)
        if (found := re.fullmatch(r" {0,3}(`{3,})[ \t]*", line)) and len(found[1]) >= len(opening[1])
    )


@given(HOSTILE)
def test_no_text_closes_its_own_fence(text: str) -> None:
    found = quoted(text)
    assert closed_by(found) == found.count("\n")
    # A reader that treats other characters as line ends sees the same lines.
    assert found.splitlines() == found.split("\n")


@given(HOSTILE)
def test_the_text_of_an_item_stays_inside_its_block(text: str) -> None:
    shown = RENDERER.render(replace(context(), items=(Item(Kind.REFLECTION, "grpo", "a test", text),)))
    assert shown.endswith(f"{quoted(text)}\n")
    assert shown.count("\n## ") == 1 + quoted(text).count("\n## ")


def test_quoting_keeps_harmless_text() -> None:
    assert quoted("a\n\n```py\nb\n```") == "````\na\n\n```py\nb\n```\n````"


@pytest.mark.parametrize("budget", [1_200, 2_000, 5_000, 10_000, 50_000])
def test_the_text_stays_within_its_budget(budget: int) -> None:
    found = RENDERER.within_budget(replace(full(), budget=budget))
    assert tokens(RENDERER.render(found)) <= budget
    assert set(found.items) | set(found.dropped) == set(full().items)
    # No item is dropped needlessly: with the last dropped item the text would be too long.
    if found.dropped:
        for back in found.dropped:
            more = replace(found, items=(*found.items, back), dropped=tuple(x for x in found.dropped if x != back))
            if tokens(RENDERER.render(more)) > budget:
                break
        else:
            raise AssertionError("something was left out for nothing")


def test_items_are_dropped_in_the_stated_order_and_some_never() -> None:
    everything = full()
    gone: list[Item] = []
    for budget in range(tokens(RENDERER.render(everything)), 0, -60):
        dropped = RENDERER.within_budget(replace(everything, budget=budget)).dropped
        gone += [item for item in dropped if item not in gone]
    order = list(dict.fromkeys(item.kind for item in gone))
    assert order == list(dict.fromkeys(kind for kind, _ in DROP_ORDER))
    assert {item.kind for item in everything.items} - set(order) == set(KEPT)
    cards = [item.name for item in gone if item.kind is Kind.CARD]
    assert cards == [f"card-{number}" for number in reversed(range(12))]
    # The middle of a lineage is dropped before its ends.
    lineage = [int(item.name.removeprefix("lineage-")) for item in gone if item.kind is Kind.LINEAGE]
    assert set(lineage[:6]) == set(range(3, 9))
    assert set(lineage[-2:]) == {0, 11}


def test_dropped_items_are_listed() -> None:
    found = RENDERER.within_budget(replace(full(), budget=5_000))
    text = RENDERER.render(found)
    _, _, listed = text.partition(sentences.CONTEXT_LEFT_OUT.format(budget=5000))
    assert found.dropped
    for item in found.dropped:
        assert item.name in listed
        assert f"{item.kind} {item.name.rpartition('-')[2]} x" not in text


def test_a_template_reads_only_the_context() -> None:
    with pytest.raises(UsageError):
        Renderer("{{ groups.__class__.__base__.__subclasses__() }}").render(context())
