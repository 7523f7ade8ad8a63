"""Find the proposal to implement for a parent: directions -> propose N -> screen -> write, and again if necessary.

Nothing here writes to the archive. The loop journals the resulting plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from poise_git import events
from poise_git.agents.interface import Agent
from poise_git.archive.genealogy import Genealogy
from poise_git.errors import CheckFailed
from poise_git.experiment import Experiment
from poise_git.pipeline.checks.duplicates import DuplicateFinder
from poise_git.search.context.builder import Contexts
from poise_git.search.context.context import Context
from poise_git.search.plan import Slot, slots_after
from poise_git.search.proposals.directions import assign_directions
from poise_git.search.proposals.screening import Gate, ProposalHistory, Screened, Verdict, best_first, screen
from poise_git.search.selection.interface import Choice, Selection, Survey

# The seeds of a parent's attempts differ by this much, so that no two parents of a round share a seed.
RESAMPLE_SEEDS = 31


@dataclass(frozen=True)
class Draft:
    """The text of a chosen proposal's child, and the context that it was written from."""

    source: str
    context: Context


def propose_and_screen(
    proposing: Proposing, genealogy: Genealogy, survey: Survey, selection: Selection, seed: int
) -> tuple[Slot, ...]:
    """Return one slot for each selected parent: N screened proposals, of which at most one is chosen."""
    proposing.begin(genealogy, survey, seed)
    return proposing.fill(selection, seed)


@dataclass
class Proposing:
    """The state of proposing over a whole search. It grows with the archive, and each part is read once.

    In the current round, `taken` holds the names in use, and `refused` the rejected proposals by parent. `past` holds
    the earlier proposals, with the journal's first `rounds` rounds. `drafts` holds the texts of chosen proposals by
    name, until `implement` takes them.
    """

    experiment: Experiment
    agent: Agent
    observe: events.Observer
    drafts: dict[str, Draft] = field(default_factory=dict)
    rounds: int = field(init=False, default=0)
    past: ProposalHistory = field(init=False, default=ProposalHistory())
    genealogy: Genealogy = field(init=False)
    contexts: Contexts = field(init=False)
    taken: frozenset[str] = field(init=False, default=frozenset())
    refused: dict[str, tuple[Screened, ...]] = field(init=False, default_factory=dict)
    _seen: set[str] = field(init=False, default_factory=set)

    @cached_property
    def duplicates(self) -> DuplicateFinder:
        return DuplicateFinder(self.experiment.archive)

    def begin(self, genealogy: Genealogy, surveyed: Survey, seed: int) -> None:
        """Begin a round: read the new entries of the archive and the journal since the last round."""
        self.genealogy, self.taken, self.refused = genealogy, frozenset(genealogy.by_name), {}
        self.contexts = self.experiment.contexts(genealogy, surveyed, seed)
        planned = slots_after(self.experiment.archive, self.rounds)
        fresh = [node for node in genealogy if node.commit not in self._seen]
        self.past = self.past.with_archived(map(self.experiment.proposal, fresh)).with_screened(
            entry for slots in planned for slot in slots for entry in slot.proposals
        )
        self._seen |= {node.commit for node in fresh}
        self.rounds += len(planned)

    def fill(self, selection: Selection, seed: int) -> tuple[Slot, ...]:
        """Make a slot for each chosen parent.

        If all proposals for a parent were rejected, the next parent in the ranking gets a slot too, up to twice as many
        parents as were selected.
        """
        chosen = {choice.name for choice in selection.parents}
        spare = (ranked.node.name for ranked in selection.ranked if ranked.node.name not in chosen)
        queue, slots = list(selection.parents), list[Slot]()
        while queue:
            slots.append(self.slot(queue.pop(0), seed + len(slots)))
            if slots[-1].chosen is None and len(slots) + len(queue) < 2 * len(chosen):
                reason = f"in the place of {slots[-1].parent}, all of whose proposals were rejected"
                queue += [Choice(name, reason) for name in [next(spare, None)] if name]
        return tuple(slots)

    def slot(self, choice: Choice, seed: int) -> Slot:
        """Screen N proposals for one parent. While all are rejected, ask again and state the reasons, up to a limit."""
        resamples = self.experiment.settings.search.resamples
        tried: tuple[Screened, ...] = ()
        for attempt in range(resamples + 1):
            screened = self.attempt(choice.name, seed, attempt)
            tried = (*screened, *tried)
            if any(entry.verdict is Verdict.CHOSEN for entry in screened):
                break
            self.observe(events.AllRejected(choice.name, len(screened), attempt, attempt < resamples))
        return Slot(choice.name, choice.reason, seed, tried)

    def attempt(self, parent: str, seed: int, attempt: int = 0) -> tuple[Screened, ...]:
        """Return N proposals for a parent with verdicts, the best first; at most one is chosen."""
        settings, seed = self.experiment.settings.search, seed + attempt * RESAMPLE_SEEDS
        refused = self.refused.get(parent, ())
        context = self.contexts.of(parent, self.taken, refused)
        proposals = self.agent.propose(context, assign_directions(context, settings.proposals, seed), seed)
        opinions = self.agent.screen(context, proposals)
        screened = screen(proposals, opinions, self.past, self.taken, settings.screening, attempt)
        screened = self._write(screened, context)
        rejected = tuple(entry for entry in screened if entry.gate)
        for entry in rejected:
            self.observe(events.ProposalRejected(entry.proposal.name, parent, str(entry.gate), entry.reason))
        chosen = [entry.proposal for entry in screened if entry.verdict is Verdict.CHOSEN]
        self.refused[parent] = (*refused, *rejected)
        self.past = self.past.with_archived(chosen).with_screened(screened)
        self.taken |= {proposal.name for proposal in chosen}
        return screened

    def _write(self, screened: Sequence[Screened], context: Context) -> tuple[Screened, ...]:
        """Apply the last gates: choose the first proposal that can be written and is not a duplicate."""
        verdicts = list(screened)
        for place, entry in enumerate(screened):
            if entry.verdict is Verdict.REJECTED:
                break
            try:
                source = self.agent.implement(entry.proposal, context)
            except CheckFailed as failure:
                verdicts[place] = entry.rejected_at(Gate.WRITING, f"cannot be written: {failure.reason}")
                continue
            written = {name: draft.source for name, draft in self.drafts.items()}
            if original := self.duplicates.find(source, self.genealogy, written):
                verdicts[place] = entry.rejected_at(Gate.DUPLICATE, f"the same algorithm as {original}")
                continue
            self.drafts[entry.proposal.name] = Draft(source, context)
            verdicts[place] = replace(entry, verdict=Verdict.CHOSEN)
            break
        return best_first(verdicts)
