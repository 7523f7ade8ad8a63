from __future__ import annotations

import click

from poise_git.cli.common import candidate_argument, json_option, open_archive, print_json, protocol_option


@click.command(name="evaluate", epilog="Example: poise-git evaluate av-grpo --protocol testbed")
@candidate_argument("ref")
@click.option("--workers", type=click.IntRange(min=1), help="Training runs at once (default: one a core).")
@protocol_option
@json_option
def command(ref: str, workers: int | None, protocol: str | None, as_json: bool) -> None:
    """Check, train and evaluate one candidate.

    Every run of the protocol that the archive does not hold yet; the root's too, where it has none. One that
    failed is tried again.
    """
    from poise_git.archive.entries import ROOT, Status
    from poise_git.cli.render import candidate_data, score_text
    from poise_git.cli.searching import open_step
    from poise_git.errors import PoiseError
    from poise_git.experiment import Experiment
    from poise_git.loop import UNEVALUATED

    experiment = Experiment.load(open_archive(), protocol=protocol)
    candidate = experiment.archive.resolve(ref)
    with open_step(experiment, quiet=as_json, workers=workers) as search:
        search.prepare()
        search.train([ROOT], UNEVALUATED)
        untried = candidate.status_under(experiment.protocol.hash) is not Status.EVALUATED
        if untried and candidate.name != ROOT and search.verify_by_name(candidate.name):
            search.train([candidate.name], UNEVALUATED)
    found = experiment.archive.resolve(candidate.name)
    if as_json:
        print_json(candidate_data(found, experiment.protocol.hash))
    else:
        click.echo(f"{found.name}  {score_text(found, experiment.protocol.hash)}")
    if found.status_under(experiment.protocol.hash) is Status.FAILED:
        click.get_current_context().exit(PoiseError.exit_code)
