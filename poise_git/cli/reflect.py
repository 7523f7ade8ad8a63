from __future__ import annotations

import click

from poise_git.cli.common import candidate_argument, json_option, open_archive, print_json, protocol_option
from poise_git.cli.output import echo


@click.command(name="reflect", epilog="Example: poise-git reflect av-grpo")
@candidate_argument("ref")
@click.option("--agent", help="Agent that reflects (default: agent in poise.yaml)")
@protocol_option
@json_option
def command(ref: str, agent: str | None, protocol: str | None, as_json: bool) -> None:
    """Diagnose a candidate again from its runs.

    Archive new metrics and a new reflection, without training.
    """
    from poise_git.cli.sessions import open_step
    from poise_git.errors import PoiseError
    from poise_git.experiment import Experiment
    from poise_git.steps.reflect import reflect

    experiment = Experiment.load(open_archive(), protocol=protocol)
    candidate = experiment.archive.resolve(ref)
    seeds = experiment.protocol.seeds
    if len(experiment.runs(candidate.name, seeds)) < len(seeds):
        raise PoiseError(
            f"{candidate.name} lacks runs on some seeds of the protocol; run: "
            f"poise-git evaluate {candidate.name}{experiment.protocol_option}"
        )
    with open_step(experiment, quiet=True, agent=agent) as session:
        reflect(session, candidate.name)
    reflection = experiment.archive.reflection(candidate.name)
    assert reflection is not None
    if as_json:
        print_json({"name": candidate.name, "facts": reflection.facts.to_data(), "prose": reflection.prose})
    else:
        echo(reflection.prose.rstrip())
