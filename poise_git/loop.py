"""The closed loop of POISE (arXiv:2603.23951), Epistemic Evolutionary Search, top to bottom:

    select parents -> propose N -> screen -> implement -> verify (bounded repair)
      -> train -> evaluate -> reflect -> archive

The archive M holds entries e = (z, rho, tau, y, r): proposal, implementation, trajectory, metrics, reflection. A round

    I    proposes        z ~ P(M)              select parents, propose N for each, screen
    II   evaluates       (tau, y) = O(z)       implement, verify, train, evaluate
    III  learns          r = A(z, tau, y)      reflect
                         M <- U(M, e)          archive

Every step ends in a commit or a note before the next begins, and every step first looks whether it is done already.
So to resume after a kill is the same walk as to run: plans come from the journal, candidates from their branches,
finished runs from the notes, and only what is missing is done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from poise_git import events
from poise_git.archive.entries import ROOT, Estimate
from poise_git.errors import BudgetReached, PoiseError
from poise_git.search.plan import Plan, selection_data
from poise_git.steps.adopt import adopt_manual_candidates
from poise_git.steps.confirm import confirm
from poise_git.steps.distill import distil_principles
from poise_git.steps.implement import implement_and_verify
from poise_git.steps.propose import propose_and_screen
from poise_git.steps.reflect import reflect_and_archive, replicate, rescore
from poise_git.steps.resume import unfinished_plan
from poise_git.steps.select import round_seed, select_parents
from poise_git.steps.session import Session
from poise_git.steps.train import UNEVALUATED, train_and_evaluate
from poise_git.steps.translate import translate_directive

# A search whose last rounds evaluated nothing has run dry: stop and say so.
BARREN_ROUNDS = 5


@dataclass(frozen=True)
class Goal:
    """When to stop: so many evaluated candidates beside the root; rounds, or hours, of this call."""

    candidates: int | None = None
    rounds: int | None = None
    hours: float | None = None

    def is_reached(self, evaluated: int, rounds: int) -> bool:
        enough_candidates = self.candidates is not None and evaluated >= self.candidates
        return enough_candidates or (self.rounds is not None and rounds >= self.rounds)

    def require_time(self, hours: float) -> None:
        """Raises BudgetReached."""
        if self.hours is not None and hours > self.hours:
            raise BudgetReached.of_hours(self.hours)


@dataclass(frozen=True)
class SearchResult:
    """How a search ended: the best candidate, and its gain over the root on fresh seeds (None: not measured).

    `out_of_budget` says which budget was reached, "" where none was.
    """

    best: str
    confirmation: Estimate | None
    evaluated: int
    rounds: int
    out_of_budget: str = ""


def evolve(session: Session, goal: Goal) -> SearchResult:
    """Run rounds until the goal is reached; goes on where an earlier call stopped, or was stopped.

    Out of budget, it ends without confirming its winner, which costs runs of its own.

    Raises:
        PoiseError: the root cannot be trained, or the search has run dry.
    """
    rounds, out_of_budget = 0, ""
    with session.archive.lock("search"):
        begin(session)
        try:
            for plan in plans(session, goal):
                carry_out(session, plan)
                rounds += 1
        except BudgetReached as reached:
            out_of_budget = str(reached)
            session.forget()
        winner = session.best
        # The winner's runs may not have come along with the branches: nothing is trained unasked.
        may_train = not out_of_budget and _is_traced(session, winner)
        gain = confirm(session, winner) if may_train else session.experiment.confirmation(winner)
        if not out_of_budget:
            session.archive.maintain()
    return SearchResult(winner, gain, session.evaluated, rounds, out_of_budget)


def begin(session: Session) -> None:
    """What comes before the first round: the root's figures, and the objective that all others are measured by.

    Raises:
        PoiseError: the root cannot be trained.
    """
    session.prepare()
    reflect_and_archive(session, train_and_evaluate(session, [ROOT], UNEVALUATED))
    if not session.is_evaluated(ROOT):
        raise PoiseError("the root cannot be trained (`poise-git show grpo` says why); evolve tries it again")
    translate_directive(session)
    rescore(session)
    # Training the root takes minutes, in which people may have committed.
    session.forget()


def plans(session: Session, goal: Goal) -> Iterator[Plan]:
    """The plan of each round, until the goal is reached; the first may be one that an earlier call left unfinished.

    Raises:
        PoiseError: the last rounds evaluated nothing.
        BudgetReached: the hours are over.
    """
    began, rounds, barren = time.monotonic(), 0, 0
    while not goal.is_reached(session.evaluated, rounds):
        goal.require_time((time.monotonic() - began) / 3600)
        evaluated = session.evaluated
        # Only what an earlier call left can be unfinished: this one carries out what it plans.
        plan = unfinished_plan(session) if rounds == 0 else None
        if plan is None and adopt_manual_candidates(session):
            session.forget()
            continue
        plan = plan or plan_round(session, goal)
        yield plan
        # One reading of the archive a round.
        session.forget()
        rounds += 1
        barren = 0 if session.evaluated > evaluated or plan.again else barren + 1
        if barren == BARREN_ROUNDS:
            raise PoiseError(f"{barren} rounds brought no candidate with figures; `poise-git log` says why")


def plan_round(session: Session, goal: Goal) -> Plan:
    """Phase I: parents and proposals, journalled before anything is built on them."""
    experiment, archive, agent = session.experiment, session.archive, session.agent
    settings = experiment.settings.search
    number, paid = archive.count_rounds() + 1, len(agent.calls)
    if number > 1 and (number - 1) % settings.distill_every == 0:
        distil_principles(session, number)
    remaining = None if goal.candidates is None else max(1, goal.candidates - session.evaluated)
    seed = round_seed(experiment.settings.seed, number)

    survey, selection = select_parents(session, seed, remaining)
    slots = propose_and_screen(session.proposing, session.genealogy, survey, selection, seed)

    plan = Plan(
        number, session.protocol.hash, agent.name, experiment.directive, seed, settings.policy,
        selection_data(selection), slots, selection.again, agent.calls[paid:],
    )  # fmt: skip
    archive.write_round(number, plan.to_data(), plan.summary)
    session.observe(events.RoundPlanned(number, plan.parents, resumed=False))
    return plan


def carry_out(session: Session, plan: Plan) -> None:
    """Phases II and III of a round. Replications come first: they may be what the goal still lacked."""
    replicate(session, plan.again)
    # Phase II: code that has passed its checks, then its runs.
    verified = [name for slot in plan.slots if (name := implement_and_verify(session, slot))]
    completed = train_and_evaluate(session, verified)
    # Phase III: what each has shown, as soon as its runs have ended.
    reflect_and_archive(session, completed)


def _is_traced(session: Session, name: str) -> bool:
    """Whether the runs that a candidate's figures are of are here."""
    return len(session.experiment.runs(name, session.protocol.seeds)) == len(session.protocol.seeds)
