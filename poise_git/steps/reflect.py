"""Phase III: what a candidate's runs say, archived in one commit with the metrics that it is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from poise_git import events
from poise_git.archive.entries import ROOT, Metrics, Reflection
from poise_git.archive.facts import ReflectionFacts
from poise_git.archive.spending import calls_for
from poise_git.errors import AgentError, BudgetReached, RunFailed
from poise_git.pipeline.recipe import ALGORITHM
from poise_git.steps.session import Session
from poise_git.steps.train import complete_root, run_missing
from poise_git.steps.verify import check


def reflect_and_archive(session: Session, completed: Iterable[str]) -> None:
    """Reflect on each candidate as its runs end.

    Runs under way are paid for too: they end before an agent that cannot go on ends the search.

    Raises:
        AgentError, BudgetReached: of the agent, once all have ended.
    """
    stopped: AgentError | BudgetReached | None = None
    for name in completed:
        try:
            reflect_or_fail(session, name)
        except (AgentError, BudgetReached) as reason:
            stopped = reason
    if stopped:
        raise stopped


def reflect_or_fail(session: Session, name: str) -> None:
    """Reflect; a candidate whose runs lack what the objective looks at becomes a failed entry."""
    try:
        reflect(session, name)
    except RunFailed as failure:
        session.fail(name, failure.stage, failure.reason)


def reflect(session: Session, name: str) -> Metrics:
    """Metrics and diagnosis of a candidate whose runs are complete.

    Raises:
        RunFailed: the objective looks at a figure that its runs do not have.
    """
    experiment, archive = session.experiment, session.archive
    metrics = experiment.measure(name, experiment.runs(name, session.protocol.seeds))
    reflection = _reflection(session, name)
    # Only now: the reflection was the last call for this candidate.
    metrics = metrics.with_calls(calls_for(archive, name, session.agent.calls))
    session.add_evidence(name, metrics, reflection)
    session.observe(events.CandidateEvaluated(name, metrics, session.evaluated))
    return metrics


def _reflection(session: Session, name: str) -> Reflection:
    if name == ROOT:
        return Reflection(ReflectionFacts(verdict="root"), "The root: every other candidate is compared with it.\n")
    recipe = session.archive.recipe(name)
    proposal = session.experiment.proposal(session.genealogy[name])
    if name not in session.verdicts:
        session.verdicts[name] = check(session, proposal, recipe).claims
    evidence = session.experiment.evidence(proposal, session.verdicts[name])
    return session.agent.reflect(proposal, evidence, session.change(proposal, recipe[ALGORITHM]))


def replicate(session: Session, names: Sequence[str]) -> None:
    """Run further seeds of candidates that may be the best, and of the root: noise must not decide between them."""
    if not names:
        return
    session.observe(events.MeasuredAgain(tuple(names)))
    seeds = (*session.protocol.seeds, *session.protocol.further_seeds)
    for name, failure in run_missing(session, [*names, ROOT], seeds):
        if failure and name != ROOT:
            session.fail(name, failure.stage, failure.reason)
    for name in names:
        if session.is_evaluated(name):
            reflect_or_fail(session, name)


def rescore(session: Session) -> None:
    """Where the objective has changed since a candidate was measured, measure it again from its archived runs.

    Runs that did not come along with the branches are trained: no other objective can be computed without them.
    """
    names = session.experiment.stale_candidates(session.genealogy)
    if not names:
        return
    complete_root(session)
    for name, failure in run_missing(session, names, session.protocol.seeds):
        if failure:
            session.fail(name, failure.stage, failure.reason)
        else:
            reflect_or_fail(session, name)
