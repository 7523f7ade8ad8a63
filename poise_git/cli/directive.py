from __future__ import annotations

import click

from poise_git.cli.common import json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo


@click.command(
    name="directive",
    epilog="""\b
Examples:
  poise-git directive "accurate and concise"            what it is translated into; nothing is written
  poise-git directive "accurate and concise" --commit   and commit that to poise.yaml
""",
)
@click.argument("text", required=False)
@click.option("--agent", help="Who translates (poise.yaml: agent).")
@click.option("--commit", is_flag=True, help="Commit directive and objective to poise.yaml, and journal them.")
@protocol_option
@json_option
def command(text: str | None, agent: str | None, commit: bool, protocol: str | None, as_json: bool) -> None:
    """The objective that a directive is translated into.

    Without TEXT: poise.yaml's own directive. What paid calls have cost is journalled either way.
    """
    from dataclasses import replace

    from poise_git.cli.render import interpretation_lines
    from poise_git.cli.sessions import agent_for
    from poise_git.errors import UsageError
    from poise_git.measurement.objective import Objective
    from poise_git.steps.translate import adopt, interpret

    experiment = open_experiment(protocol)
    experiment = replace(experiment, directive=experiment.directive if text is None else text)
    if not experiment.directive.strip():
        raise UsageError('no directive: poise-git directive "accurate and concise"')
    translator = agent_for(experiment, agent)
    reading = interpret(experiment, translator)
    if commit:
        adopt(experiment, reading, translator)
    else:
        experiment.archive.write_calls("directive", translator.calls)
    if as_json:
        print_json({"directive": experiment.directive, **reading.to_data(), "committed": commit})
        return
    echo("\n".join(interpretation_lines(experiment.directive, reading)))
    if reading.objective is not None:
        echo("\n" + Objective(experiment.protocol.suite_weights, reading.objective).to_yaml().rstrip())
        if not commit:
            echo("\nTo search by it: the same command with --commit, or put the block into poise.yaml and commit it")
