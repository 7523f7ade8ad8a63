from __future__ import annotations

import click

from poise_git.cli.common import candidate_argument, json_option, open_archive, print_json, protocol_option
from poise_git.cli.output import echo


@click.command(
    name="cross",
    epilog="""\b
Examples:
  poise-git cross vm-grpo av-grpo                      merge both mechanisms into one child
  poise-git cross vm-grpo av-grpo --agent anthropic    let the model resolve a conflict
""",
)
@candidate_argument("first")
@candidate_argument("second")
@click.option("--name", metavar="N", help="Name of the child (default: made from both names)")
@click.option("--agent", help="Agent that resolves conflicts, reviews and repairs (default: agent in poise.yaml)")
@protocol_option
@json_option
def command(first: str, second: str, name: str | None, agent: str | None, protocol: str | None, as_json: bool) -> None:
    """Merge two candidates into a child with both mechanisms.

    Git merges the changes that each has made since their common ancestor. The child is checked and archived like every
    candidate; `poise-git evaluate` trains it.
    """
    from poise_git.agents.library.naming import unique
    from poise_git.cli.sessions import open_step
    from poise_git.experiment import Experiment
    from poise_git.operators.cross import cross

    experiment = Experiment.load(open_archive(), protocol=protocol)
    ours, theirs = experiment.archive.resolve(first), experiment.archive.resolve(second)
    taken = experiment.archive.genealogy().by_name
    child = name or unique(f"{theirs.name.rpartition('-')[0] or theirs.name}-{ours.name}", taken)
    with open_step(experiment, quiet=as_json, agent=agent) as session:
        passed = cross(session, ours, theirs, child)
    if as_json:
        print_json({"name": child, "parents": [ours.name, theirs.name], "passed": passed})
    elif passed:
        echo(f"created {child} from {ours.name} and {theirs.name}; to train it: poise-git evaluate {child}")
    if not passed:
        # Like every candidate that fails a check, the child is archived with the reason.
        echo(f"poise-git: {child} failed a check before training; for the reason: poise-git show {child}", err=True)
        raise SystemExit(1)
