"""Training and evaluating what the archive does not hold yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from poise_git import events
from poise_git.containing import Containing
from poise_git.errors import RunFailed
from poise_git.executors.interface import Executor
from poise_git.experiment import Experiment
from poise_git.pipeline.interface import Job, Progress
from poise_git.pipeline.sandbox.removal import remove_tree
from poise_git.search.figures import UTILITY


def run_missing(
    experiment: Experiment,
    containing: Containing,
    executor: Executor,
    observe: events.Observer,
    names: Iterable[str],
    seeds: Sequence[int],
) -> Iterator[tuple[str, RunFailed | None]]:
    """Run what the notes do not hold yet, and archive each run as it ends.

    Yields each candidate once, complete or with its failure; one whose code is changed by hand meanwhile, never.
    """

    def progress(job: Job, made: Progress) -> None:
        observe(events.JobProgress(job.candidate, job.seed, made))

    archive = experiment.archive
    missing = {name: set(seeds) - {run.seed for run in experiment.runs(name, seeds)} for name in dict.fromkeys(names)}
    yield from ((name, None) for name, lacking in missing.items() if not lacking)
    genealogy = archive.genealogy()
    jobs = [
        replace(experiment.job(name, seed), containment=containing.of(genealogy[name], genealogy))
        for name in missing
        for seed in sorted(missing[name])
    ]
    for outcome in executor.run(jobs, progress):
        name = outcome.job.candidate
        if archive.recipe(name) != outcome.job.recipe:
            observe(events.Rewritten(name, outcome.job.seed))
            remove_tree(outcome.job.scratch)
            continue
        if outcome.run:
            archive.add_run(name, outcome.run)
            missing[name].discard(outcome.run.seed)
            value = experiment.objective.figures([outcome.run])[UTILITY].get(outcome.run.seed)
            observe(events.RunEnded(name, outcome.run.seed, value, outcome.run.cpu_seconds))
        # Only now that its outcome is archived: what is interrupted before goes on from here.
        remove_tree(outcome.job.scratch)
        if outcome.failure or not missing[name]:
            yield name, outcome.failure
    for dropped in jobs:
        remove_tree(dropped.scratch)
