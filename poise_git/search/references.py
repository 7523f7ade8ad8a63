"""Assembling an agent's context from the archive: the parent, its line, and references of several kinds."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Candidate, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.search.context import Context, Known
from poise_git.search.literature import Card
from poise_git.search.nodes import evaluated, mechanism_words

# How many candidates of each kind the context shows.
REFERENCES: Mapping[str, int] = {"performance": 2, "complementary": 2, "exploratory": 1, "failed": 3, "sibling": 8}


def assemble_context(
    archive: Archive,
    genealogy: Genealogy,
    parent: str,
    *,
    protocol: str,
    cards: tuple[Card, ...],
    directive: str,
    taken_names: Iterable[str],
    seed: int,
) -> Context:
    """Everything a proposal for a child of `parent` may depend on."""

    def known(candidate: Candidate) -> Known:
        return Known(
            candidate=candidate,
            proposal=archive.proposal(candidate.name),
            reflection=archive.reflection(candidate.name),
            metrics=candidate.metrics_under(protocol),
        )

    references = choose_references(genealogy, parent, protocol, seed)
    return Context(
        parent=known(genealogy.by_name[parent]),
        source=archive.recipe(parent)["algorithm.py"],
        root_source=archive.recipe(ROOT)["algorithm.py"],
        line=tuple(known(ancestor) for ancestor in genealogy.ancestors(parent)),
        references={kind: tuple(known(candidate) for candidate in chosen) for kind, chosen in references.items()},
        cards=cards,
        directive=directive,
        taken_names=frozenset(taken_names),
    )


def choose_references(genealogy: Genealogy, parent: str, protocol: str, seed: int) -> dict[str, tuple[Candidate, ...]]:
    """The best others, good ones with unlike mechanisms, one by lot, the newest failures, and the parent's children."""
    found = evaluated(genealogy, protocol)
    own = mechanism_words(genealogy, genealogy.by_name[parent])

    def value(candidate: Candidate) -> float:
        utility = found[candidate.name][1].utility
        return utility.value if utility else float("-inf")

    def unlikeness(candidate: Candidate) -> float:
        words = mechanism_words(genealogy, candidate)
        return 1.0 - len(words & own) / max(len(words | own), 1)

    others = [candidate for name, (candidate, _) in found.items() if name != parent]
    by_value = sorted(others, key=lambda candidate: -value(candidate))
    performance = by_value[: REFERENCES["performance"]]
    good_half = [candidate for candidate in by_value[: (len(by_value) + 1) // 2] if candidate not in performance]
    complementary = sorted(good_half, key=lambda candidate: -unlikeness(candidate))[: REFERENCES["complementary"]]
    rest = [candidate for candidate in others if candidate not in performance and candidate not in complementary]
    exploratory = random.Random(seed).sample(rest, min(len(rest), REFERENCES["exploratory"]))
    failed = [candidate for candidate in genealogy if candidate.status_under(protocol) is Status.FAILED]
    return {
        "performance": tuple(performance),
        "complementary": tuple(complementary),
        "exploratory": tuple(exploratory),
        "failed": tuple(failed[-REFERENCES["failed"] :]),
        "sibling": tuple(genealogy.children(parent)[-REFERENCES["sibling"] :]),
    }
