"""Train and evaluate the runs that the archive does not hold yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from poise_git import events
from poise_git.archive.entries import ROOT, Status
from poise_git.errors import PoiseError, RunFailed
from poise_git.measurement.figures import UTILITY
from poise_git.pipeline.interface import Job, Progress
from poise_git.pipeline.sandbox.removal import remove_tree
from poise_git.steps.session import Session

UNTRIED = frozenset({Status.PENDING})
UNEVALUATED = frozenset({Status.PENDING, Status.FAILED})


def train_and_evaluate(session: Session, names: Iterable[str], statuses: frozenset[Status] = UNTRIED) -> Iterator[str]:
    """Carry out the missing runs of the named candidates that have one of the statuses.

    Yields each candidate as soon as it is complete. A failed one is archived with its reason, and the others continue.
    """
    pending = [name for name in names if session.genealogy[name].status_under(session.protocol.hash) in statuses]
    if set(pending) - {ROOT}:
        complete_root(session)
    for name, failure in run_missing(session, pending, session.protocol.seeds):
        if failure:
            session.fail(name, failure.stage, failure.reason)
        else:
            yield name


def complete_root(session: Session) -> None:
    """Carry out the root's missing runs, because gains are paired with them by seed.

    If the branches were cloned without notes, the archive holds the root's figures but not its runs.

    Raises:
        PoiseError: the root cannot be trained.
    """
    for name, failure in run_missing(session, [ROOT], session.protocol.seeds):
        if failure:
            raise PoiseError(f"{name} cannot be trained, so nothing can be compared with it: {failure}")


def run_missing(session: Session, names: Iterable[str], seeds: Sequence[int]) -> Iterator[tuple[str, RunFailed | None]]:
    """Carry out the runs that the notes do not hold yet, and archive each as it ends.

    Yields each candidate once, complete or with its failure. A candidate whose code changed meanwhile is not yielded.
    """

    def progress(job: Job, made: Progress) -> None:
        session.observe(events.JobProgress(job.candidate, job.seed, made))

    experiment, archive = session.experiment, session.archive
    missing = {name: set(seeds) - {run.seed for run in experiment.runs(name, seeds)} for name in dict.fromkeys(names)}
    yield from ((name, None) for name, lacking in missing.items() if not lacking)
    genealogy = session.genealogy
    jobs = [
        replace(experiment.job(name, seed), containment=session.containing.of(genealogy[name], genealogy))
        for name in missing
        for seed in sorted(missing[name])
    ]
    for outcome in session.executor.run(jobs, progress):
        name = outcome.job.candidate
        if archive.recipe(name) != outcome.job.recipe:
            session.observe(events.Rewritten(name, outcome.job.seed))
            remove_tree(outcome.job.scratch)
            continue
        if outcome.run:
            archive.add_run(name, outcome.run)
            missing[name].discard(outcome.run.seed)
            value = experiment.objective.figures([outcome.run])[UTILITY].get(outcome.run.seed)
            session.observe(events.RunEnded(name, outcome.run.seed, value, outcome.run.cpu_seconds))
        # Remove the scratch folder only after the outcome is archived, so that an interrupted run can resume from it.
        remove_tree(outcome.job.scratch)
        if outcome.failure or not missing[name]:
            yield name, outcome.failure
    for dropped in jobs:
        remove_tree(dropped.scratch)
