"""The shipped cards and template, algorithms loaded from text, and contexts, for tests of the library agent."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import count
from pathlib import Path

from poise_git.archive.entries import ROOT, Candidate, Estimate, Metrics, Proposal, Reflection, Status
from poise_git.pipeline.checks.trial import Trial, load_algorithm
from poise_git.resources import template_files
from poise_git.search.context import Context, Item, Kind, Known
from poise_git.search.literature import Card, load_card

_NUMBERS = count()


@cache
def recipe() -> dict[str, str]:
    prefix = "recipe/"
    return {path.removeprefix(prefix): text for path, text in template_files().items() if path.startswith(prefix)}


def root_text() -> str:
    return recipe()["algorithm.py"]


@cache
def cards() -> tuple[Card, ...]:
    return tuple(
        load_card(text, path) for path, text in sorted(template_files().items()) if path.startswith("literature/")
    )


def coded_cards() -> tuple[Card, ...]:
    return tuple(card for card in cards() if card.edits)


def card(name: str) -> Card:
    return next(card for card in cards() if card.name == name)


def load(text: str) -> Trial:
    """The algorithm, imported under a name of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return Trial(load_algorithm({**recipe(), "algorithm.py": text}, Path(folder), f"library_test_{next(_NUMBERS)}"))


def known(
    name: str = ROOT,
    *,
    proposal: Proposal | None = None,
    reflection: Reflection | None = None,
    gain: Estimate | None = None,
    status: Status = Status.EVALUATED,
    utility: float = 0.2,
) -> Known:
    metrics = Metrics(status, "0" * 12, utility=Estimate(utility, 0.01, 4), gain=gain)
    priors = proposal.priors if proposal else ()
    parents = (proposal.parent,) if proposal else ()
    candidate = Candidate(name, "0" * 40, parents, "m", "h", "f", priors, "library", None, {metrics.protocol: metrics})
    return Known(candidate, proposal, reflection, metrics)


def told(kind: Kind, of: Known) -> Item:
    return Item(kind, of.candidate.name, "a test", "", of)


def context(
    source: str | None = None,
    *,
    parent: Known | None = None,
    directive: str = "",
    items: Sequence[Item] = (),
    taken: frozenset[str] = frozenset({ROOT}),
    of: tuple[Card, ...] | None = None,
) -> Context:
    return Context(
        parent=parent or known(),
        source=root_text() if source is None else source,
        root_source=root_text(),
        items=tuple(items),
        dropped=(),
        budget=24_000,
        cards=cards() if of is None else of,
        directive=directive,
        taken_names=taken,
    )
