from __future__ import annotations

import click

from poise_git.cli.common import (
    candidate_argument,
    executor_options,
    json_option,
    open_archive,
    print_json,
    protocol_option,
)
from poise_git.cli.output import echo


@click.command(
    name="reproduce",
    epilog="""\b
Examples:
  poise-git reproduce av-grpo
  poise-git reproduce grpo --seed 2
""",
)
@candidate_argument("ref")
@click.option("--seed", type=int, help="Seed of the run (default: the first archived run)")
@executor_options
@protocol_option
@json_option
def command(
    ref: str, seed: int | None, executor: str | None, ray_address: str | None, protocol: str | None, as_json: bool
) -> None:
    """Repeat an archived run and compare the figures.

    Train the same recipe, protocol and seed. On the testbed all figures must be equal to the last bit. On other
    backends U must be within the protocol's noise. The outcome is appended to the candidate's notes; no run changes.
    """
    from poise_git.cli.sessions import open_step
    from poise_git.errors import PoiseError
    from poise_git.experiment import Experiment
    from poise_git.integrity.verdicts import reproduction_text
    from poise_git.operators.reproduce import archived_run, reproduce

    experiment = Experiment.load(open_archive(), protocol=protocol)
    candidate = experiment.archive.resolve(ref)
    before = archived_run(experiment, candidate, seed)
    with open_step(
        experiment, quiet=as_json, workers=1, executor=executor, ray_address=ray_address, measure=False
    ) as session:
        session.prepare()
        found = reproduce(session, candidate, before)
    if as_json:
        print_json({"name": candidate.name, "reproduces": found.reproduces} | found.to_data())
    elif found.reproduces:
        echo(f"{candidate.name} reproduces on seed {found.seed}: {reproduction_text(found)}")
    if found.reproduces:
        return
    causes = ""
    if found.figure:
        causes = (
            f"; a different torch or processor can cause this as well as a forged run: here torch {found.torch} on "
            f"{found.processor}; the archived run did not record its own"
        )
    raise PoiseError(f"{candidate.name} does not reproduce on seed {found.seed}: {reproduction_text(found)}{causes}")
