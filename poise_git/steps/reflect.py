"""Phase III: reflect on a candidate's runs, and archive the reflection and the metrics in one commit."""

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
    """Reflect on each candidate as soon as its runs end.

    If the agent fails, the runs in progress still finish before the search ends, because they are already paid for.

    Raises:
        AgentError, BudgetReached: the agent's error, raised after all runs have ended.
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
    """Reflect on a candidate; archive it as failed if its runs lack a figure of the objective."""
    try:
        reflect(session, name)
    except RunFailed as failure:
        session.fail(name, failure.stage, failure.reason)


def reflect(session: Session, name: str) -> Metrics:
    """Measure and diagnose a candidate whose runs are complete.

    Raises:
        RunFailed: the objective uses a figure that its runs do not have.
    """
    experiment, archive = session.experiment, session.archive
    metrics = experiment.measure(name, experiment.runs(name, session.protocol.seeds))
    reflection = _reflection(session, name)
    # Count the calls only now, because the reflection was the last call for this candidate.
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
    """Run more seeds of the root and of candidates that may be the best, so that noise does not decide between them."""
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
    """Measure candidates again from their archived runs if the objective has changed since the last measurement.

    Missing runs are trained again, because another objective can be computed only from runs.
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
