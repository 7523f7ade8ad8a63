"""The shipped cards and template, algorithms loaded from text, and contexts, for tests of the library agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from poise_git.archive.entries import ROOT, Candidate, Claim, Estimate, Metrics, Proposal, Reflection, Status
from poise_git.package_data import template_files
from poise_git.pipeline.boundary.door import CANDIDATE
from poise_git.pipeline.boundary.in_process import InProcess
from poise_git.pipeline.checks.claims import knobs_of
from poise_git.pipeline.checks.knobs import NoSuchRecipe, knob_variants
from poise_git.pipeline.checks.trial import Trial
from poise_git.search.context.context import CandidateRecord, Context, Item, Kind
from poise_git.search.literature import Card, load_card


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


def load(text: str, claims: Sequence[Claim] = ()) -> Trial:
    """The algorithm in this process, with the variants that reduction claims compare with it."""
    own = {**recipe(), "algorithm.py": text}
    variants, problems = knob_variants(own, knobs_of(claims))

    def open_process(name: str) -> InProcess:
        if name in problems:
            raise NoSuchRecipe(problems[name])
        return InProcess(own if name == CANDIDATE else variants[name])

    return Trial.of(open_process, CANDIDATE)


def claims_at_defaults(of: Card) -> tuple[Claim, ...]:
    """The card's claims about code; claims that name a knob get its default."""
    values = {f"{{{name}}}": knob.default for name, knob in of.knobs.items()}

    def filled(arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: values.get(value, value) if isinstance(value, str) else value for name, value in arguments.items()
        }

    return tuple(
        Claim(claim.statement, claim.check, filled(claim.arguments)) for claim in of.claims if claim.check != "effect"
    )


def known(
    name: str = ROOT,
    *,
    proposal: Proposal | None = None,
    reflection: Reflection | None = None,
    gain: Estimate | None = None,
    status: Status = Status.EVALUATED,
    utility: float = 0.2,
) -> CandidateRecord:
    metrics = Metrics(status, "0" * 12, utility=Estimate(utility, 0.01, 4), gain=gain)
    priors = proposal.priors if proposal else ()
    parents = (proposal.parent,) if proposal else ()
    candidate = Candidate(name, "0" * 40, parents, "m", "h", "f", priors, "library", None, {metrics.protocol: metrics})
    return CandidateRecord(candidate, proposal, reflection, metrics)


def told(kind: Kind, of: CandidateRecord) -> Item:
    return Item(kind, of.candidate.name, "a test", "", of)


def context(
    source: str | None = None,
    *,
    parent: CandidateRecord | None = None,
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
