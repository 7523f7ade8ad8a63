"""The closed loop of POISE (arXiv:2603.23951), top to bottom:

    select parents -> propose N -> screen -> implement -> verify (bounded repair)
      -> train + evaluate -> reflect -> archive

Every step ends in a commit or a note before the next begins, and every step first looks whether it is done already.
So resuming after a kill is the same walk as running: plans come from the journal, candidates from their branches,
finished runs from the notes, and only what is missing is done.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from poise_git import events
from poise_git.accounts import ledger_of
from poise_git.agents.interface import Agent
from poise_git.analysis.evidence import ClaimVerdict
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Candidate, Estimate, Metrics, Proposal, Reflection, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.containing import Containing
from poise_git.errors import AgentError, BudgetReached, CheckFailed, PoiseError, RunFailed
from poise_git.executors.interface import Executor
from poise_git.experiment import Experiment
from poise_git.learning import distil_principles
from poise_git.pipeline.checks import CheckReport, check_candidate
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import IsolationMissing, Sandbox
from poise_git.pipeline.sandbox.removal import fresh_folder
from poise_git.plan import Plan, Slot, selection_data
from poise_git.proposing import Proposing
from poise_git.search.context import Context
from poise_git.search.items import change_text
from poise_git.search.policies import policy_of
from poise_git.steering import adopt, interpret, is_untranslated
from poise_git.training import run_missing
from poise_git.verification import with_reading

ALGORITHM = "algorithm.py"
UNTRIED = frozenset({Status.PENDING})
UNEVALUATED = frozenset({Status.PENDING, Status.FAILED})
# A search whose last rounds brought nothing that could be evaluated has run dry: stop and say so.
BARREN_ROUNDS = 5


@dataclass(frozen=True)
class Goal:
    """When to stop: so many evaluated candidates beside the root; rounds, or hours, of this call."""

    candidates: int | None = None
    rounds: int | None = None
    hours: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a search ended: the best candidate, and its gain over the root on fresh seeds (None: not measured).

    `out_of_budget` says which budget was reached, "" where none was.
    """

    best: str
    confirmation: Estimate | None
    evaluated: int
    rounds: int
    out_of_budget: str = ""


def round_seed(seed: int, number: int) -> int:
    """The seed of one round; its slots use the ones that follow."""
    return seed * 1_000_003 + number * 101


@dataclass
class Search:
    """One search: an experiment, and those who carry it out."""

    experiment: Experiment
    agent: Agent
    executor: Executor
    sandbox: Sandbox
    containing: Containing
    observe: events.Observer
    verdicts: dict[str, tuple[ClaimVerdict, ...]] = field(default_factory=dict)
    """Verdicts on claims about code, of the candidates verified by this process."""
    refused: set[str] = field(default_factory=set)
    """Candidates by hand whose code may not run on this machine."""

    def evolve(self, goal: Goal) -> Ended:
        """Run rounds until the goal is reached; goes on where an earlier call stopped, or was stopped.

        Out of budget, it ends without confirming its winner, which costs runs of its own.

        Raises:
            PoiseError: the root cannot be trained, or the search has run dry.
        """
        started, rounds, barren = time.monotonic(), 0, 0
        with self.archive.lock("search"):
            self.prepare()
            self.train([ROOT], UNEVALUATED)
            if ROOT not in self.experiment.evaluated():
                raise PoiseError("the root cannot be trained (`poise-git show grpo` says why); evolve tries it again")
            self.steer()
            self.measure_anew()
            while not self._reached(goal, rounds):
                if goal.hours is not None and time.monotonic() - started > goal.hours * 3600:
                    return self._out_of_budget(str(BudgetReached.of_hours(goal.hours)), rounds)
                evaluated = self.evaluated
                # Only what an earlier call left can be unfinished: this one carries out what it plans.
                left = self.unfinished_round() if rounds == 0 else None
                try:
                    if left is None and self.take_in():
                        continue
                    plan = left or self.plan_round(goal)
                    # First: once the goal is reached, nobody asks what else the round was to do.
                    self.measure_again(plan.again)
                    self.train(self.realise_all(plan))
                except BudgetReached as reached:
                    return self._out_of_budget(str(reached), rounds)
                rounds += 1
                barren = 0 if self.evaluated > evaluated or plan.again else barren + 1
                if barren == BARREN_ROUNDS:
                    raise PoiseError(f"{barren} rounds brought no candidate with figures; `poise-git log` says why")
            winner = self.best
            # Its confirmation may be among the trajectories that did not come along: nothing is trained unasked.
            gain = (self.confirm if self._is_traced(winner) else self.experiment.confirmation)(winner)
            self.archive.maintain()
        return Ended(winner, gain, self.evaluated, rounds)

    def steer(self) -> None:
        """A directive that nobody has translated yet becomes the objective of all that follows, and is committed."""
        if is_untranslated(self.experiment):
            reading = interpret(self.experiment, self.agent)
            self.observe(events.DirectiveTranslated(self.experiment.directive, reading))
            self.experiment = adopt(self.experiment, reading, self.agent)

    # Phase I: select parents, propose N, screen.

    def unfinished_round(self) -> Plan | None:
        """The newest plan under this protocol, if something of it is still to do."""
        plans = (Plan.from_data(data) for data in reversed(self.archive.rounds()))
        plan = next((plan for plan in plans if plan.protocol == self.protocol.hash), None)
        genealogy = self.archive.genealogy()
        if plan is None:
            return None
        if all(self._is_done(slot, genealogy) for slot in plan.slots) and not any(map(self._lacks_again, plan.again)):
            return None
        self.observe(events.RoundPlanned(plan.number, plan.parents, resumed=True))
        return plan

    def plan_round(self, goal: Goal) -> Plan:
        """Choose parents and proposals, and journal them before anything is built on them."""
        settings, genealogy = self.experiment.settings.search, self.archive.genealogy()
        number, paid = self.archive.count_rounds() + 1, len(self.agent.calls)
        if number > 1 and (number - 1) % settings.distil_every == 0:
            distil_principles(self.experiment, self.agent, number)
        seed = round_seed(self.experiment.settings.seed, number)
        remaining = None if goal.candidates is None else max(1, goal.candidates - self.evaluated)
        surveyed = self.experiment.survey(genealogy, remaining)
        count = min(settings.parents, remaining or settings.parents)
        selection = policy_of(settings).select(surveyed, count, seed)
        self.proposing.begin(genealogy, surveyed, seed)
        slots = self.proposing.fill(selection, seed)

        plan = Plan(
            number, self.protocol.hash, self.agent.name, self.experiment.directive, seed,
            settings.policy, selection_data(selection), slots, selection.again, self.agent.calls[paid:],
        )  # fmt: skip
        self.archive.write_round(number, plan.to_data(), plan.summary)
        self.observe(events.RoundPlanned(number, plan.parents, resumed=False))
        return plan

    # Phase II: implement, verify, train, evaluate.

    def take_in(self) -> bool:
        """Verify, train and reflect what people have committed by plain git; whether there was anything."""
        earlier, taken = list[Candidate](), list[str]()
        for node in self.archive.genealogy():
            if node.parents and not node.metrics and node.name not in self.refused:
                source = self.archive.recipe(node.name).get(ALGORITHM, "")
                twin = self.proposing.twins.find(source, earlier, {})
                if twin:
                    self._fail(node.name, "twin", f"the same algorithm as {twin}")
                try:
                    taken.append("" if twin or not self.verify_by_name(node.name) else node.name)
                except IsolationMissing as missing:
                    # Somebody's code stops no search of others'.
                    self.refused.add(node.name)
                    self.observe(events.CodeRefused(node.name, str(missing)))
            earlier.append(node)
        self.train(filter(None, taken))
        return bool(taken)

    def realise_all(self, plan: Plan) -> list[str]:
        """The plan's candidates that are to be trained."""
        return [name for slot in plan.slots if (name := self.realise(slot))]

    def realise(self, slot: Slot) -> str | None:
        """The slot's best proposal as a verified candidate on a branch; None where there is none."""
        proposal, genealogy = slot.chosen, self.archive.genealogy()
        if proposal is None:
            return None
        if proposal.name in genealogy:
            pending = genealogy[proposal.name].status_under(self.protocol.hash) is Status.PENDING
            # A process that was killed may have archived it without a verdict of the checks.
            return proposal.name if pending and self.verify_by_name(proposal.name) else None
        surveyed = self.experiment.survey(genealogy)
        context = self.experiment.contexts(genealogy, surveyed, slot.seed).of(slot.parent, genealogy.by_name)
        try:
            source = self.proposing.sources.pop(proposal.name, None) or self.agent.implement(proposal, context)
        except CheckFailed as failure:
            self.observe(events.ProposalSkipped(proposal.name, slot.parent, failure.reason))
            return None
        return proposal.name if self.verify(proposal, source, context) else None

    def verify(self, proposal: Proposal, source: str, context: Context) -> bool:
        """Check, repair a bounded number of times, and archive the candidate whether it passed or not."""
        parent = self.archive.recipe(proposal.parent)
        repairs, report = 0, self.check(proposal, {**parent, ALGORITHM: source})
        while report.failure and repairs < self.experiment.settings.checks.repairs:
            mended = self.agent.repair(proposal, source, report.failure, context)
            if mended is None or mended == source:
                break
            source, repairs = mended, repairs + 1
            report = self.check(proposal, {**parent, ALGORITHM: source})
        self.archive.add_candidate(proposal, source)
        self.verdicts[proposal.name] = report.claims
        if report.failure:
            self._fail(proposal.name, report.failure.check, report.failure.reason)
        else:
            self.observe(
                events.CandidateAdded(proposal.name, proposal.parent, proposal.mechanism, len(report.passed), repairs)
            )
        return report.failure is None

    def verify_by_name(self, name: str) -> bool:
        """Check a candidate that is a branch already, such as one committed by hand; archive a failure."""
        candidate = self.archive.genealogy()[name]
        proposal = self.experiment.proposal(candidate)
        if candidate.evidence is None:
            self.archive.add_proposal(proposal)
        report = self.check(proposal, self.archive.recipe(name))
        self.verdicts[name] = report.claims
        if report.failure:
            self._fail(name, report.failure.check, report.failure.reason)
        else:
            self.observe(events.CandidateAdded(name, proposal.parent, proposal.mechanism, len(report.passed), 0))
        return report.failure is None

    def train(self, names: Iterable[str], statuses: frozenset[Status] = UNTRIED) -> None:
        """Every missing run of the named candidates that have one of the statuses.

        Runs are archived as they end, candidates when they are complete.
        """
        genealogy, seeds = self.archive.genealogy(), self.protocol.seeds
        pending = [name for name in names if genealogy[name].status_under(self.protocol.hash) in statuses]
        stopped: AgentError | BudgetReached | None = None
        if set(pending) - {ROOT}:
            self.complete_root()
        for name, failure in self._run_missing(pending, seeds):
            if failure:
                self._fail(name, failure.stage, failure.reason)
                continue
            try:
                self.reflect_or_fail(name)
            except (AgentError, BudgetReached) as reason:
                # Runs under way are paid for too: they end before the search does.
                stopped = reason
        if stopped:
            raise stopped

    def complete_root(self) -> None:
        """See that the root's runs are here: gains are paired with them by seed.

        Where notes did not come along with the branches its figures are known and its runs are not.

        Raises:
            PoiseError: the root cannot be trained.
        """
        for name, failure in self._run_missing([ROOT], self.protocol.seeds):
            if failure:
                raise PoiseError(f"{name} cannot be trained, so nothing can be compared with it: {failure}")

    def measure_again(self, names: Sequence[str]) -> None:
        """Further seeds of candidates that may be the best, and of the root: luck shall not decide between them."""
        if not names:
            return
        self.observe(events.MeasuredAgain(tuple(names)))
        seeds = (*self.protocol.seeds, *self.protocol.further_seeds)
        for name, failure in self._run_missing([*names, ROOT], seeds):
            if failure and name != ROOT:
                self._fail(name, failure.stage, failure.reason)
        for name in names:
            if name in self.experiment.evaluated():
                self.reflect_or_fail(name)

    # Phase III: reflect, archive; and confirm before anything is called a winner.

    def reflect_or_fail(self, name: str) -> None:
        """Reflect; a candidate whose runs lack what the objective looks at becomes a failed entry."""
        try:
            self.reflect(name)
        except RunFailed as failure:
            self._fail(name, failure.stage, failure.reason)

    def reflect(self, name: str) -> Metrics:
        """Metrics and diagnosis of a candidate whose runs are complete, archived in one commit.

        Raises:
            RunFailed: the objective looks at a figure that its runs do not have.
        """
        metrics = self.experiment.measure(name, self.experiment.runs(name, self.protocol.seeds))
        proposal = self.experiment.proposal(self.archive.genealogy()[name])
        if name == ROOT:
            reflection = Reflection({"verdict": "root"}, "The root: every other candidate is compared with it.\n")
        else:
            if name not in self.verdicts:
                self.verdicts[name] = self.check(proposal, self.archive.recipe(name)).claims
            evidence = self.experiment.evidence(proposal, self.verdicts[name])
            reflection = self.agent.reflect(proposal, evidence, self._change(proposal, self.archive.recipe(name)))
        metrics = metrics.with_calls(ledger_of(self.archive, name, self.agent.calls))
        self.archive.add_evidence(name, metrics, reflection)
        self.observe(events.CandidateEvaluated(name, metrics, self.evaluated))
        return metrics

    def measure_anew(self) -> None:
        """Where the objective has changed since a candidate was measured, measure it again from its archived runs.

        Runs that did not come along with the branches are trained: no other objective can be computed without them.
        """
        names = self.experiment.measured_otherwise()
        if not names:
            return
        self.complete_root()
        for name, failure in self._run_missing(names, self.protocol.seeds):
            if failure:
                self._fail(name, failure.stage, failure.reason)
            else:
                self.reflect_or_fail(name)

    def confirm(self, name: str) -> Estimate | None:
        """The candidate against the root on seeds that selection has never seen: its gain there."""
        seeds = self.protocol.confirmation_seeds
        if name == ROOT or not seeds:
            return None
        for each, failure in self._run_missing([name, ROOT], seeds):
            if failure:
                self.observe(events.ConfirmationFailed(each, failure.reason))
        gain = self.experiment.confirmation(name)
        self.observe(events.Confirmed(name, gain))
        return gain

    # What the steps share.

    def check(self, proposal: Proposal, recipe: Mapping[str, str]) -> CheckReport:
        """All checks before training, of a child of the proposal's parent: in the sandbox, then by a reader."""
        parent, genealogy = self.archive.recipe(proposal.parent or ROOT), self.archive.genealogy()
        names = tuple(name for name in (proposal.parent, proposal.second_parent) if name)
        containment = self.containing.of_checks(recipe.get(ALGORITHM, ""), names, genealogy)
        with fresh_folder() as scratch:
            report = check_candidate(recipe, proposal.claims, parent, self.sandbox, scratch, containment)
        if report.failure:
            return report
        began = time.perf_counter()
        return with_reading(
            report, self.agent.verify(proposal, recipe[ALGORITHM], self._change(proposal, recipe)), began
        )

    def prepare(self) -> None:
        """What all runs share, made once on every machine that runs them."""
        self.executor.prepare(self.protocol, lambda progress: self.observe(events.Preparing(progress)))

    @cached_property
    def proposing(self) -> Proposing:
        return Proposing(self.experiment, self.agent, self.observe)

    @property
    def archive(self) -> Archive:
        return self.experiment.archive

    @property
    def protocol(self) -> Protocol:
        return self.experiment.protocol

    @property
    def evaluated(self) -> int:
        """Evaluated candidates beside the root."""
        return len(self.experiment.evaluated().keys() - {ROOT})

    @property
    def best(self) -> str:
        leader = self.experiment.best()
        return leader[0].name if leader else ROOT

    def _change(self, proposal: Proposal, recipe: Mapping[str, str]) -> str:
        """The diff from the proposal's parent."""
        return change_text(self.archive.recipe(proposal.parent or ROOT)[ALGORITHM], recipe[ALGORITHM])

    def _out_of_budget(self, which: str, rounds: int) -> Ended:
        return Ended(self.best, self.experiment.confirmation(self.best), self.evaluated, rounds, which)

    def _reached(self, goal: Goal, rounds: int) -> bool:
        enough_candidates = goal.candidates is not None and self.evaluated >= goal.candidates
        return enough_candidates or (goal.rounds is not None and rounds >= goal.rounds)

    def _lacks_again(self, name: str) -> bool:
        """Whether further seeds of an evaluated candidate are still to be run, or to be counted."""
        metrics = self.archive.genealogy()[name].metrics_under(self.protocol.hash)
        return bool(metrics and metrics.gain and metrics.gain.n <= len(self.protocol.seeds))

    def _is_traced(self, name: str) -> bool:
        """Whether the runs that a candidate's figures are of are here."""
        return len(self.experiment.runs(name, self.protocol.seeds)) == len(self.protocol.seeds)

    def _is_done(self, slot: Slot, genealogy: Genealogy) -> bool:
        """Its proposal has an outcome, or it has none."""
        if slot.chosen is None:
            return True
        node = genealogy.by_name.get(slot.chosen.name)
        return node is not None and node.status_under(self.protocol.hash) is not Status.PENDING

    def _run_missing(self, names: Iterable[str], seeds: Sequence[int]) -> Iterator[tuple[str, RunFailed | None]]:
        return run_missing(self.experiment, self.containing, self.executor, self.observe, names, seeds)

    def _fail(self, name: str, stage: str, reason: str) -> None:
        """A failed candidate keeps its branches, with the stage and the reason: negative evidence is evidence."""
        objective = self.experiment.objective.fingerprint
        failed = Metrics(Status.FAILED, self.protocol.hash, objective=objective, stage=stage, reason=reason)
        metrics = failed.with_calls(ledger_of(self.archive, name, self.agent.calls))
        self.archive.add_evidence(name, metrics, None)
        self.observe(events.CandidateFailed(name, stage, reason))
