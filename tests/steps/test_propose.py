"""Proposing on a real archive, by agents with scripted answers; nothing is trained.

P1  Every proposal has a verdict with a reason, and at most one per slot is chosen.
P2  If all proposals for a parent are rejected, the agent tries again with the reasons, a stated number of times.
P3  After that the next free parent in the ranking is used, and every attempt is in the plan.
P4  The same state of the archive and the same seed give the same slots.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from poise_git import events
from poise_git.agents.interface import Agent
from poise_git.agents.library.agent import LibraryAgent
from poise_git.agents.library.mechanisms import install
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Direction, Estimate, Metrics, Proposal, Reflection, Status
from poise_git.archive.facts import ReflectionFacts
from poise_git.errors import CheckFailed
from poise_git.experiment import Experiment
from poise_git.search.context.context import Context, Kind
from poise_git.search.plan import Plan, Slot
from poise_git.search.proposals.screening import Gate, Opinion, Verdict
from poise_git.search.selection import policy_of
from poise_git.search.selection.survey import survey
from poise_git.steps.propose import Proposing
from tests.agents.library.support import card, root_text
from tests.conftest import edit_settings
from tests.pipeline.checks.disguise import renamed

SUITES = ("composite", "accuracy")


@pytest.fixture
def archive(tiny_archive: Archive) -> Archive:
    """The root and two children of it, with figures as if they had been trained."""
    for name, value in ((ROOT, 0.2), ("dace-grpo", 0.3), ("cispo-grpo", 0.1)):
        if name != ROOT:
            prior = {"dace-grpo": "length-gate", "cispo-grpo": "cispo"}[name]
            proposal = Proposal(name, ROOT, prior, "h", "f", "library", priors=(prior,), plan={"card": prior})
            tiny_archive.add_candidate(proposal, install(root_text(), card(prior)))
        found = Estimate(value, 0.01, 2)
        gain = None if name == ROOT else Estimate(value - 0.2, 0.01, 2, 0.02)
        protocol = Experiment.load(tiny_archive).protocol.hash
        values = dict.fromkeys(SUITES, found)
        metrics = Metrics(Status.EVALUATED, protocol, utility=found, gain=gain, values=values, seeds=(0, 1))
        tiny_archive.add_evidence(
            name, metrics, Reflection(ReflectionFacts.from_data({"verdict": "better"}), "It is so.\n")
        )
    return tiny_archive


class Told:
    """Proposes the requested number; `answer` gives the text of each, or a failure."""

    name = "told"

    def __init__(self, answer: Callable[[Proposal, Context], str]) -> None:
        self.answer, self.contexts = answer, list[Context]()

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        self.contexts.append(context)
        number = len(self.contexts)
        return tuple(
            Proposal(
                f"{context.parent.candidate.name}-{number}-{place}", context.parent.candidate.name,
                f"idea {number}.{place}", "why not", "f", self.name, plan={"n": [number, place]}, direction=direction,
            )
            for place, direction in enumerate(directions)
        )  # fmt: skip

    def screen(self, context: Context, proposals: Sequence[Proposal]) -> tuple[Opinion, ...]:
        return tuple(Opinion(1.0, 1.0, 1.0 - place / 10, True, "as told") for place, _ in enumerate(proposals))

    def implement(self, proposal: Proposal, context: Context) -> str:
        return self.answer(proposal, context)

    def __getattr__(self, name: str) -> object:
        return getattr(LibraryAgent(), name)


def slots_of(archive: Archive, agent: Agent, parents: int = 1) -> tuple[tuple[Slot, ...], list[events.Event]]:
    experiment, seen = Experiment.load(archive), list[events.Event]()
    genealogy = archive.genealogy()
    surveyed = survey(genealogy, experiment.protocol.hash, experiment.objective)
    proposing = Proposing(experiment, agent, seen.append)
    proposing.begin(genealogy, surveyed, 7)
    selection = policy_of(experiment.settings.search).select(surveyed, parents, 7)
    return proposing.fill(selection, 7), seen


def different(proposal: Proposal, context: Context) -> str:
    """An algorithm that no candidate has."""
    penalty = "penalty = torch.zeros_like(log_prob)"
    assert penalty in context.source
    return context.source.replace(penalty, f"{penalty} + 0.1{proposal.plan['n'][-1]}")


def copied(proposal: Proposal, context: Context) -> str:
    return renamed(context.source, random.Random(str(proposal.plan)))


def impossible(proposal: Proposal, context: Context) -> str:
    raise CheckFailed("implement", "no idea how")


def test_every_proposal_has_a_verdict_and_the_best_feasible_one_is_chosen(archive: Archive) -> None:
    def answer(proposal: Proposal, context: Context) -> str:
        return (impossible, copied, different, different)[proposal.plan["n"][1]](proposal, context)

    (slot,), seen = slots_of(archive, Told(answer))
    found = {entry.proposal.plan["n"][1]: entry for entry in slot.proposals}
    assert [found[place].verdict for place in range(4)] == ["rejected", "rejected", "chosen", "passed"]
    assert (found[0].gate, found[0].reason) == (Gate.WRITING, "cannot be written: no idea how")
    assert (found[1].gate, found[1].reason) == (Gate.DUPLICATE, f"the same algorithm as {slot.parent}")
    assert slot.chosen == found[2].proposal
    assert slot.proposals[0] == found[2]
    for entry in slot.proposals:
        assert entry.reason
        assert set(entry.scores) == {"consistency", "feasibility", "novelty", "improvement"}
    assert len(set(directions_of(slot))) == 4
    assert [(event.name, event.gate) for event in seen if isinstance(event, events.ProposalRejected)] == [
        (found[0].proposal.name, "writing"),
        (found[1].proposal.name, "duplicate"),
    ]


def test_proposals_for_a_parent_are_repeated_with_the_reasons(archive: Archive) -> None:
    def answer(proposal: Proposal, context: Context) -> str:
        return different(proposal, context) if context.rejected else impossible(proposal, context)

    agent = Told(answer)
    (slot,), seen = slots_of(archive, agent)
    first, second = agent.contexts
    assert first.rejected == ()
    assert [entry.reason for entry in second.rejected] == ["cannot be written: no idea how"] * 4
    told = [item.text for item in second.of(Kind.REJECTED)]
    assert len(told) == 4
    assert all("no idea how" in text for text in told)
    assert [entry.attempt for entry in slot.proposals] == [1] * 4 + [0] * 4
    assert slot.chosen
    assert slot.attempts == 2
    assert [event for event in seen if isinstance(event, events.AllRejected)] == [
        events.AllRejected(slot.parent, 4, 0, again=True)
    ]
    (read,) = Plan.from_data(plan_of(slot).to_data()).slots
    assert (read.chosen, read.attempts) == (slot.chosen, 2)


def test_the_next_parent_in_the_ranking_follows_after_the_retries(archive: Archive) -> None:
    def answer(proposal: Proposal, context: Context) -> str:
        return different(proposal, context) if len(agent.contexts) > 6 else copied(proposal, context)

    agent = Told(answer)
    slots, seen = slots_of(archive, agent, parents=2)
    assert {slot.parent for slot in slots} == {ROOT, "dace-grpo", "cispo-grpo"}
    assert [bool(slot.chosen) for slot in slots] == [False, False, True]
    assert [slot.attempts for slot in slots] == [3, 3, 1]
    assert [len(slot.proposals) for slot in slots] == [12, 12, 4]
    assert slots[2].reason == f"in the place of {slots[0].parent}, all of whose proposals were rejected"
    ends = [event for event in seen if isinstance(event, events.AllRejected)]
    assert [(event.parent, event.attempt, event.again) for event in ends] == [
        (slot.parent, attempt, attempt < 2) for slot in slots[:2] for attempt in range(3)
    ]


def test_a_round_ends_if_no_parent_is_left(archive: Archive) -> None:
    edit_settings(archive.root, "  resamples: 2", "  resamples: 0")
    slots, _ = slots_of(archive, Told(copied), parents=1)
    assert len(slots) == 2
    slots, _ = slots_of(archive, Told(copied), parents=3)
    assert sorted(slot.parent for slot in slots) == sorted({"grpo", "dace-grpo", "cispo-grpo"})
    assert all(slot.chosen is None and slot.attempts == 1 for slot in slots)


def test_an_agent_without_proposals_is_retried_and_then_skipped(archive: Archive) -> None:
    class Silent(Told):
        def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
            super().propose(context, directions, seed)
            return ()

    agent = Silent(different)
    slots, _ = slots_of(archive, agent)
    assert [slot.proposals for slot in slots] == [(), ()]
    assert len(agent.contexts) == 6


def test_a_proposal_rejected_in_the_journal_is_not_repeated(archive: Archive) -> None:
    class Stubborn(Told):
        def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
            self.contexts.append(context)
            name = f"again-{len(self.contexts)}"
            return (Proposal(name, context.parent.candidate.name, "the same", "h", "f", self.name, plan={"n": [0]}),)

    slots, _ = slots_of(archive, Stubborn(impossible))
    gates = [entry.gate for entry in slots[0].proposals]
    assert gates == [Gate.REPEATED, Gate.REPEATED, Gate.WRITING]
    archive.write_round(1, plan_of(*slots).to_data())
    again, _ = slots_of(archive, Stubborn(different))
    assert {entry.gate for slot in again for entry in slot.proposals} == {Gate.REPEATED}


def test_the_library_agent_fills_each_direction_and_is_deterministic(archive: Archive) -> None:
    slots, _ = slots_of(archive, LibraryAgent(), parents=3)
    assert slots == slots_of(archive, LibraryAgent(), parents=3)[0]
    for slot in slots:
        assert len(set(directions_of(slot))) == len(slot.proposals) == 4
        assert [entry.verdict for entry in slot.proposals].count(Verdict.CHOSEN) == 1
        assert slot.chosen == slot.proposals[0].proposal
        assert all(entry.reason for entry in slot.proposals)


def directions_of(slot: Slot) -> list[tuple[str, str]]:
    sent = [entry.proposal.direction for entry in slot.proposals]
    return [(each.kind, each.name) for each in sent if each]


def plan_of(*slots: Slot) -> Plan:
    return Plan(1, "p" * 12, "told", "", 7, "tree", {}, slots)
