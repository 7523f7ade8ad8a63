from __future__ import annotations

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


@click.command(name="confirm", epilog="Example: poise-git confirm av-grpo")
@candidate_argument("ref")
@click.option("--workers", type=click.IntRange(min=1), help="Training runs at a time (default: one per core)")
@trust_option
@executor_options
@protocol_option
@json_option
def command(
    ref: str,
    workers: int | None,
    executor: str | None,
    ray_address: str | None,
    trust: bool,
    protocol: str | None,
    as_json: bool,
) -> None:
    """Compare a candidate with the root on fresh seeds.

    Train both on the protocol's confirmation seeds, which selection never sees, each at the best of the learning rates
    that the protocol names for finalists.
    """
    from poise_git.archive.entries import ROOT, Status
    from poise_git.cli.render import difference_text, interval_text, violation_text
    from poise_git.cli.sessions import open_step
    from poise_git.cli.verdict import learning_rates_text
    from poise_git.errors import PoiseError, UsageError
    from poise_git.experiment import Experiment
    from poise_git.measurement.statistics import beyond_noise
    from poise_git.steps.confirm import confirm

    experiment = Experiment.load(open_archive(), protocol=protocol)
    candidate = experiment.archive.resolve(ref)
    seeds = experiment.protocol.confirmation_seeds
    if not seeds:
        raise UsageError(
            f"protocols/{experiment.protocol.name}.yaml has no confirmation_seeds; add some and commit the file"
        )
    if candidate.name == ROOT:
        raise UsageError(
            f"{ROOT} is the root, which candidates are compared with; name another candidate: poise-git log"
        )
    if candidate.status_under(experiment.protocol.hash) is not Status.EVALUATED:
        raise PoiseError(
            f"{candidate.name} has not been evaluated yet; run: "
            f"poise-git evaluate {candidate.name}{experiment.protocol_option}"
        )
    with open_step(
        experiment, quiet=as_json, workers=workers, executor=executor, ray_address=ray_address, trust=trust
    ) as session:
        session.prepare()
        gain = confirm(session, candidate.name)
    if gain is None:
        raise PoiseError(
            f"{candidate.name} or {ROOT} failed on a fresh seed, so nothing is confirmed; run the same command again"
        )
    violated = experiment.confirmed_violations(candidate.name)
    doubt = experiment.doubt()
    confirmed = gain.value > 0 and beyond_noise(gain) and not violated and not doubt
    if as_json:
        violations = [violation.to_data() for violation in violated]
        rates = {each: experiment.best_learning_rate(each) for each in (candidate.name, ROOT)}
        print_json(
            {
                "name": candidate.name,
                "gain": gain.to_data(),
                "learning_rates": rates,
                "confirmed": confirmed,
                "violated": violations,
            }
        )
    else:
        verdict = ", ".join(
            ["confirmed" if confirmed else "not confirmed", *map(violation_text, violated), *filter(None, [doubt])]
        )
        rates_text = learning_rates_text(experiment, candidate.name)
        echo(f"{candidate.name}: {difference_text(gain)} vs {ROOT}{interval_text(gain)}{rates_text}: {verdict}")
