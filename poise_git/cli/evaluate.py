from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poise_git.cli.common import (
    candidate_argument,
    executor_options,
    json_option,
    open_archive,
    print_json,
    protocol_option,
    trust_option,
)
from poise_git.cli.output import echo

if TYPE_CHECKING:
    from poise_git.archive.entries import Status
    from poise_git.experiment import Experiment


@click.command(
    name="evaluate",
    epilog="""\b
Examples:
  poise-git evaluate av-grpo --protocol testbed
  poise-git evaluate --protocol paper --estimate    print the cost of a run; needs no candidate and no archive
""",
)
@candidate_argument("ref", required=False)
@click.option("--workers", type=click.IntRange(min=1), help="Training runs at a time (default: one per core)")
@click.option("--estimate", is_flag=True, help="Print the cost of a run, and exit")
@trust_option
@executor_options
@protocol_option
@json_option
def command(
    ref: str | None,
    workers: int | None,
    estimate: bool,
    executor: str | None,
    ray_address: str | None,
    trust: bool,
    protocol: str | None,
    as_json: bool,
) -> None:
    """Check, train and evaluate one candidate.

    Execute every run of the protocol that the archive lacks, also for the root. Try a failed candidate again.
    """
    from poise_git.archive.entries import ROOT, Status
    from poise_git.cli.render import candidate_data, score_text
    from poise_git.cli.run_cost import show_estimate
    from poise_git.cli.sessions import open_step
    from poise_git.errors import PoiseError, UsageError
    from poise_git.experiment import Experiment
    from poise_git.steps.reflect import reflect_and_archive
    from poise_git.steps.train import train_and_evaluate
    from poise_git.steps.verify import verify_branch

    if estimate:
        show_estimate(protocol, as_json=as_json)
        return
    if ref is None:
        raise UsageError("name a candidate, or print the cost of a run: poise-git evaluate --estimate")
    experiment = Experiment.load(open_archive(), protocol=protocol)
    candidate = experiment.archive.resolve(ref)
    with open_step(
        experiment, quiet=as_json, workers=workers, executor=executor, ray_address=ray_address, trust=trust
    ) as session:
        session.prepare()
        reflect_and_archive(session, train_and_evaluate(session, [ROOT], _to_train(experiment, ROOT)))
        statuses = _to_train(experiment, candidate.name)
        untried = candidate.status_under(experiment.protocol.hash) in statuses
        if untried and candidate.name != ROOT and verify_branch(session, candidate.name):
            reflect_and_archive(session, train_and_evaluate(session, [candidate.name], statuses))
    found = experiment.archive.resolve(candidate.name)
    if as_json:
        print_json(candidate_data(found, experiment.protocol.hash, experiment.verdicts()))
    else:
        echo(f"{found.name}  {score_text(found, experiment.protocol.hash)}")
    if found.status_under(experiment.protocol.hash) is Status.FAILED:
        click.get_current_context().exit(PoiseError.exit_code)


def _to_train(experiment: Experiment, name: str) -> frozenset[Status]:
    """The statuses in which a candidate is trained; an evaluated one only if the archive lacks some of its runs."""
    from poise_git.archive.entries import Status
    from poise_git.steps.train import UNEVALUATED

    seeds = experiment.protocol.seeds
    whole = len(experiment.runs(name, seeds)) == len(seeds)
    return UNEVALUATED if whole else UNEVALUATED | {Status.EVALUATED}
