"""Build contexts. Data that the parents of one archive state share is computed once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from poise_git.archive import Archive
from poise_git.archive.collection import gc_paused
from poise_git.archive.entries import ROOT, Candidate, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.search.context import item_text
from poise_git.search.context.context import CandidateRecord, Context, Item, Kind
from poise_git.search.context.ranking import Ranking, searched
from poise_git.search.context.references import ReferencePool, Rejected
from poise_git.search.context.rendering import Renderer
from poise_git.search.context.retrieval import Corpus
from poise_git.search.literature import Card
from poise_git.search.proposals.screening import Screened
from poise_git.search.selection.interface import Survey
from poise_git.search.selection.paper import utility_scale
from poise_git.search.selection.survey import effects_of_priors

# Show this many of a parent's newest children.
SIBLINGS = 24


@dataclass(frozen=True)
class ContextSettings:
    """The settings that all contexts of a search share.

    `objective` is in words, `budget` in tokens, and `unweighted` are the suites that have no part in U.
    """

    protocol: str
    seeds: tuple[int, ...]
    objective: str
    unweighted: frozenset[str]
    directive: str
    cards: tuple[Card, ...]
    budget: int
    renderer: Renderer

    @cached_property
    def literature(self) -> Corpus:
        return Corpus({card.name: searched(card) for card in self.cards})


@dataclass(frozen=True)
class Contexts:
    """The contexts of candidates for one state of an archive. They depend only on that state and `seed`.

    `rejected` holds proposals that screening rejected, oldest first.
    """

    archive: Archive
    genealogy: Genealogy
    survey: Survey
    brief: ContextSettings
    rejected: Sequence[Rejected]
    seed: int
    _changes: dict[str, str] = field(default_factory=dict)

    @gc_paused()
    def of(self, parent: str, taken_names: Collection[str], refused: Sequence[Screened] = ()) -> Context:
        """The context for a child of `parent`; `refused` are this round's rejections for this parent."""
        candidate = self.genealogy[parent]
        context = Context(
            parent=self._known(candidate),
            source=self.archive.algorithm_of(candidate),
            root_source=self.archive.algorithm_of(self.genealogy[ROOT]),
            items=tuple(self._items(candidate, refused)),
            dropped=(),
            budget=self.brief.budget,
            cards=self.brief.cards,
            unweighted=self.brief.unweighted,
            directive=self.brief.directive,
            taken_names=frozenset(taken_names),
            rejected=tuple(refused),
            effects=self._effects,
        )
        return self.brief.renderer.within_budget(context)

    def _items(self, parent: Candidate, refused: Sequence[Screened]) -> Iterator[Item]:
        if self.brief.directive:
            yield Item(Kind.DIRECTIVE, "", "the directive of this search", self.brief.directive)
        yield Item(Kind.OBJECTIVE, "", "it ranks candidates and selects parents", self.brief.objective)
        yield from self._of_parent(parent)
        yield from self._lineage(parent)
        tiers = self._field.tiers(parent.name, self.seed)
        for kind, chosen in tiers.items():
            for reference in chosen:
                known = self._known(self.genealogy[reference.name])
                text = item_text.reference_text(known, self._change(known.candidate))
                yield Item(kind, reference.name, reference.reason, text, known)
        children = (child for child in self.genealogy.children(parent.name) if not self._failed(child))
        for child in tuple(children)[-SIBLINGS:]:
            known = self._known(child)
            text = item_text.sibling_text(known, self._gain(child, parent))
            yield Item(Kind.SIBLING, child.name, "already a child of this parent", text, known)
        for entry in refused:
            text = item_text.rejected_text(entry.proposal, entry.reason)
            yield Item(Kind.REJECTED, entry.proposal.name, "proposed for this parent in this round and rejected", text)
        yield from self._failures(parent)
        shown = [reference.name for chosen in tiers.values() for reference in chosen]
        for reference in self._ranking.reflections(self._known(parent), shown):
            prose = self.archive.prose_of(self.genealogy[reference.name])
            yield Item(Kind.RELATED, reference.name, reference.reason, prose)
        for number, text in enumerate(item_text.principle_texts(self.archive.principles()), 1):
            yield Item(Kind.PRINCIPLE, f"principle {number}", "distilled from the reflections of this search", text)
        for card, reason in self._ranking.literature(self._known(parent)):
            yield Item(Kind.CARD, card.name, reason, item_text.card_text(card, self._effects.get(card.name, ())))

    def _of_parent(self, parent: Candidate) -> Iterator[Item]:
        name, known = parent.name, self._known(parent)
        yield Item(Kind.CODE, name, "the text that a child changes", self.archive.algorithm_of(parent))
        yield Item(
            Kind.PROPOSAL, name, "the intention behind the parent", item_text.proposal_text(parent, known.proposal)
        )
        yield Item(Kind.METRICS, name, "the figures that a child must beat", item_text.metrics_text(known.metrics))
        runs = [
            run
            for run in self.archive.runs(name)
            if run.protocol == self.brief.protocol and run.seed in self.brief.seeds
        ]
        yield Item(Kind.TRAJECTORY, name, "the course of its training", item_text.trajectory_text(runs))
        if known.reflection:
            yield Item(Kind.REFLECTION, name, "its result, and what to try next", known.reflection.prose)

    def _lineage(self, parent: Candidate) -> Iterator[Item]:
        for ancestor in self.genealogy.ancestors(parent.name):
            known = self._known(ancestor)
            first = self.genealogy.by_name.get((*ancestor.parents, "")[0])
            text = item_text.ancestor_text(ancestor, known.metrics, self._gain(ancestor, first) if first else None)
            yield Item(Kind.LINEAGE, ancestor.name, "the parent descends from it", text, known)

    def _failures(self, parent: Candidate) -> Iterator[Item]:
        for entry, reason in self._field.failures(parent.name, self.rejected):
            if isinstance(entry, Rejected):
                text = item_text.rejected_text(entry.proposal, entry.reason)
                yield Item(Kind.FAILURE, entry.proposal.name, reason, text)
            else:
                known = self._known(entry)
                text = f"{item_text.metrics_text(known.metrics)}\n{item_text.proposal_text(entry, known.proposal)}"
                yield Item(Kind.FAILURE, entry.name, reason, text, known)

    def _known(self, candidate: Candidate) -> CandidateRecord:
        return CandidateRecord(
            candidate,
            self.archive.proposal_of(candidate),
            self.archive.reflection_of(candidate),
            candidate.metrics_under(self.brief.protocol),
        )

    def _failed(self, candidate: Candidate) -> bool:
        return candidate.status_under(self.brief.protocol) is Status.FAILED

    def _change(self, candidate: Candidate) -> str:
        """The candidate's diff from its first parent."""
        if candidate.name not in self._changes:
            parent = self.genealogy.by_name.get((*candidate.parents, "")[0])
            texts = [self.archive.algorithm_of(each) for each in (parent, candidate) if each]
            self._changes[candidate.name] = item_text.change_text(*texts) if len(texts) == 2 else ""
        return self._changes[candidate.name]

    def _gain(self, candidate: Candidate, over: Candidate) -> float | None:
        """The difference of their utilities, if both have one."""
        of, against = (each.metrics_under(self.brief.protocol) for each in (candidate, over))
        if of is None or against is None or of.utility is None or against.utility is None:
            return None
        return of.utility.value - against.utility.value

    @cached_property
    def _effects(self) -> Mapping[str, tuple[float, ...]]:
        return effects_of_priors(self.genealogy, self.brief.protocol, utility_scale(self.survey))

    @cached_property
    def _field(self) -> ReferencePool:
        return ReferencePool.of(self.genealogy, self.survey, self.brief.protocol, self.brief.cards)

    @cached_property
    def _ranking(self) -> Ranking:
        return Ranking(self.archive, self._field, self.brief.cards, self.brief.literature, self.brief.directive)
