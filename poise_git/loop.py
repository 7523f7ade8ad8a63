"""The closed loop of POISE (arXiv:2603.23951), Epistemic Evolutionary Search, top to bottom:

    select parents -> propose N -> screen -> implement -> verify (bounded repair)
      -> train -> evaluate -> reflect -> archive

The archive M holds entries e = (z, rho, tau, y, r): proposal, implementation, trajectory, metrics, reflection. A round

    I    proposes        z ~ P(M)              select parents, propose N for each, screen
    II   evaluates       (tau, y) = O(z)       implement, verify, train, evaluate
    III  learns          r = A(z, tau, y)      reflect
                         M <- U(M, e)          archive

Every step ends in a commit or a note before the next begins, and every step first checks whether it is already done.
So a resumed search runs the same code as a new one: it reads plans from the journal, candidates from their branches and
finished runs from the notes, and does only the missing work.
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
from poise_git.steps.distill import distill_principles
from poise_git.steps.implement import implement_and_verify
from poise_git.steps.propose import propose_and_screen
from poise_git.steps.reflect import reflect_and_archive, replicate, rescore
from poise_git.steps.resume import unfinished_plan
from poise_git.steps.select import round_seed, select_parents
from poise_git.steps.session import Session
from poise_git.steps.train import UNEVALUATED, train_and_evaluate
from poise_git.steps.translate import translate_directive

# A search stops with an error after this many consecutive rounds that evaluated no candidate.
BARREN_ROUNDS = 5


@dataclass(frozen=True)
class Goal:
    """When to stop: after this many evaluated candidates beside the root, or rounds or hours of this call."""

    candidates: int | None = None
    rounds: int | None = None
    hours: float | None = None

    def is_reached(self, evaluated: int, rounds: int) -> bool:
        enough_candidates = self.candidates is not None and evaluated >= self.candidates
        return enough_candidates or (self.rounds is not None and rounds >= self.rounds)

    def require_time(self, hours: float) -> None:
        """Raises BudgetReached if `hours` exceeds the limit."""
        if self.hours is not None and hours > self.hours:
            raise BudgetReached.of_hours(self.hours)


@dataclass(frozen=True)
class SearchResult:
    """How a search ended: the best candidate, and its gain over the root on fresh seeds (None: not measured).

    `out_of_budget` states the budget that was reached; it is "" if none was.
    """

    best: str
    confirmation: Estimate | None
    evaluated: int
    rounds: int
    out_of_budget: str = ""


def evolve(session: Session, goal: Goal) -> SearchResult:
    """Run rounds until the goal is reached; continue where an earlier call ended or was interrupted.

    If a budget is reached, it ends without confirming its winner, because confirmation costs further runs.

    Raises:
        PoiseError: the root cannot be trained, or the last rounds evaluated nothing.
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
        # The winner's runs may be missing, because notes do not always come with the branches. Do not train it unasked.
        may_train = not out_of_budget and _is_traced(session, winner)
        gain = confirm(session, winner) if may_train else session.experiment.confirmation(winner)
        if not out_of_budget:
            session.archive.maintain()
    return SearchResult(winner, gain, session.evaluated, rounds, out_of_budget)


def begin(session: Session) -> None:
    """Prepare the first round: evaluate the root, and settle the objective that measures all candidates.

    Raises:
        PoiseError: the root cannot be trained.
    """
    session.prepare()
    reflect_and_archive(session, train_and_evaluate(session, [ROOT], UNEVALUATED))
    if not session.is_evaluated(ROOT):
        raise PoiseError("the root cannot be trained (`poise-git show grpo` says why); evolve tries it again")
    translate_directive(session)
    rescore(session)
    # Training the root takes minutes. Read the archive again, because people may have committed meanwhile.
    session.forget()


def plans(session: Session, goal: Goal) -> Iterator[Plan]:
    """Yield the plan of each round until the goal is reached; the first may be an earlier call's unfinished plan.

    Raises:
        PoiseError: the last rounds evaluated nothing.
        BudgetReached: the hours are used up.
    """
    began, rounds, barren = time.monotonic(), 0, 0
    while not goal.is_reached(session.evaluated, rounds):
        goal.require_time((time.monotonic() - began) / 3600)
        evaluated = session.evaluated
        # Only an earlier call can have left an unfinished plan, because this call carries out every plan it makes.
        plan = unfinished_plan(session) if rounds == 0 else None
        if plan is None and adopt_manual_candidates(session):
            session.forget()
            continue
        plan = plan or plan_round(session, goal)
        yield plan
        # Read the archive once per round.
        session.forget()
        rounds += 1
        barren = 0 if session.evaluated > evaluated or plan.again else barren + 1
        if barren == BARREN_ROUNDS:
            raise PoiseError(f"{barren} rounds brought no candidate with figures; `poise-git log` says why")


def plan_round(session: Session, goal: Goal) -> Plan:
    """Phase I: choose parents and proposals. The journal records them before anything depends on them."""
    experiment, archive, agent = session.experiment, session.archive, session.agent
    settings = experiment.settings.search
    number, paid = archive.count_rounds() + 1, len(agent.calls)
    if number > 1 and (number - 1) % settings.distill_every == 0:
        distill_principles(session, number)
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
    """Phases II and III of a round. Replications come first, because they may reach the goal on their own."""
    replicate(session, plan.again)
    # Phase II: implement and verify candidates, then train those that passed.
    verified = [name for slot in plan.slots if (name := implement_and_verify(session, slot))]
    completed = train_and_evaluate(session, verified)
    # Phase III: reflect on each candidate as soon as its runs have ended.
    reflect_and_archive(session, completed)


def _is_traced(session: Session, name: str) -> bool:
    """Whether the archive holds the runs behind a candidate's figures."""
    return len(session.experiment.runs(name, session.protocol.seeds)) == len(session.protocol.seeds)
