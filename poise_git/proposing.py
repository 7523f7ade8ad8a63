"""From a parent to the proposal that is implemented: directions -> propose N -> screen -> write; if need be, again.

Nothing here writes to the archive: the plan that comes of it is journalled by the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from poise_git import events
from poise_git.agents.interface import Agent
from poise_git.archive.genealogy import Genealogy
from poise_git.errors import CheckFailed
from poise_git.experiment import Experiment
from poise_git.pipeline.checks import same_algorithm
from poise_git.plan import Plan, Slot
from poise_git.search.context import Context
from poise_git.search.contexts import Contexts
from poise_git.search.policies.interface import Choice, Selection, Survey
from poise_git.search.population import assign_directions
from poise_git.search.screening import Gate, Past, Screened, Verdict, best_first, screen

ALGORITHM = "algorithm.py"
# Seeds of a parent's attempts lie so far apart that no two parents of a round share one.
RESAMPLE_SEEDS = 31


@dataclass
class Proposing:
    """One round's proposals; `past` grows by what is chosen, `sources` holds the code that was written, by name."""

    experiment: Experiment
    agent: Agent
    observe: events.Observer
    genealogy: Genealogy
    past: Past
    contexts: Contexts
    sources: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, experiment: Experiment, agent: Agent, observe: events.Observer, surveyed: Survey, seed: int
    ) -> Proposing:
        """With everything that the archive and the journal know by now; `seed` is the round's."""
        genealogy = experiment.archive.genealogy()
        plans = map(Plan.from_data, experiment.archive.rounds())
        journalled = (entry for plan in plans for slot in plan.slots for entry in slot.proposals)
        past = Past.of(map(experiment.proposal, genealogy), journalled)
        contexts = experiment.contexts(genealogy, surveyed, seed)
        return cls(experiment, agent, observe, genealogy, past, contexts)

    def fill(self, selection: Selection, seed: int) -> tuple[Slot, ...]:
        """A slot for each choice.

        Where all proposals for a parent were rejected, the next in the ranking that is not taken gets a slot too; but
        no round asks more than twice as many parents as it was to have.
        """
        chosen = {choice.name for choice in selection.choices}
        spare = (ranked.node.name for ranked in selection.ranked if ranked.node.name not in chosen)
        queue, slots = list(selection.choices), list[Slot]()
        while queue:
            slots.append(self.slot(queue.pop(0), seed + len(slots)))
            if slots[-1].chosen is None and len(slots) + len(queue) < 2 * len(chosen):
                reason = f"in the place of {slots[-1].parent}, all of whose proposals were rejected"
                queue += [Choice(name, reason) for name in [next(spare, None)] if name]
        return tuple(slots)

    def slot(self, choice: Choice, seed: int) -> Slot:
        """N proposals for one parent, with verdicts; asked again, with the reasons, while all of them are rejected."""
        settings = self.experiment.settings.search
        tried: tuple[Screened, ...] = ()
        for attempt in range(settings.resamples + 1):
            screened = self.attempt(choice.name, tried, seed, attempt)
            tried = (*screened, *tried)
            if any(entry.verdict is Verdict.CHOSEN for entry in screened):
                break
            self.observe(events.AllRejected(choice.name, len(screened), attempt, attempt < settings.resamples))
        slot = Slot(choice.name, choice.reason, seed, tried)
        if slot.chosen:
            self.past = self.past.with_chosen(slot.chosen)
        return slot

    def attempt(self, parent: str, rejected: tuple[Screened, ...], seed: int, attempt: int) -> tuple[Screened, ...]:
        """N proposals for a parent with verdicts, the best first; `rejected` is what was refused for it already."""
        settings, seed = self.experiment.settings.search, seed + attempt * RESAMPLE_SEEDS
        taken = frozenset(self.genealogy.by_name) | {proposal.name for proposal in self.past.archived}
        context = self.contexts.of(parent, taken, rejected)
        proposals = self.agent.propose(context, assign_directions(context, settings.proposals, seed), seed)
        opinions = self.agent.screen(context, proposals)
        past = self.past.with_rejected(rejected)
        screened = self._write(screen(proposals, opinions, past, taken, settings.screening, attempt), context)
        for entry in screened:
            if entry.gate:
                self.observe(events.ProposalRejected(entry.proposal.name, parent, str(entry.gate), entry.reason))
        return screened

    def _write(self, screened: Sequence[Screened], context: Context) -> tuple[Screened, ...]:
        """The last gates: down to the first proposal that can be written and is a copy of nobody, which is chosen."""
        verdicts = list(screened)
        for place, entry in enumerate(screened):
            if entry.verdict is Verdict.REJECTED:
                break
            try:
                source = self.agent.implement(entry.proposal, context)
            except CheckFailed as failure:
                verdicts[place] = entry.rejected_at(Gate.WRITING, f"cannot be written: {failure.reason}")
                continue
            if twin := self._twin(source):
                verdicts[place] = entry.rejected_at(Gate.TWIN, f"the same algorithm as {twin}")
                continue
            self.sources[entry.proposal.name] = source
            verdicts[place] = replace(entry, verdict=Verdict.CHOSEN)
            break
        return best_first(verdicts)

    def _twin(self, source: str) -> str | None:
        """The candidate, or the proposal just written, that has the same algorithm already."""
        others: Iterable[tuple[str, str]] = (
            *self.sources.items(),
            *((node.name, self.experiment.archive.recipe(node.name).get(ALGORITHM, "")) for node in self.genealogy),
        )
        return next((name for name, other in others if same_algorithm(source, other)), None)
