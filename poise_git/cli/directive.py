from __future__ import annotations

import click

from poise_git.cli.common import json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo


@click.command(
    name="directive",
    epilog="""\b
Examples:
  poise-git directive "accurate and concise"            show the translation; write nothing
  poise-git directive "accurate and concise" --commit   commit it to poise.yaml
""",
)
@click.argument("text", required=False)
@click.option("--agent", help="Agent that translates (default: agent in poise.yaml)")
@click.option("--commit", is_flag=True, help="Commit the directive and the objective to poise.yaml, and journal them")
@protocol_option
@json_option
def command(text: str | None, agent: str | None, commit: bool, protocol: str | None, as_json: bool) -> None:
    """Translate a directive into an objective.

    Without TEXT, translate the directive in poise.yaml. The cost of paid calls is journaled in either case.
    """
    from dataclasses import replace

    from poise_git.archive.documents import dump_yaml
    from poise_git.cli.render import interpretation_lines, kept_edits_text
    from poise_git.cli.sessions import agent_for
    from poise_git.errors import UsageError
    from poise_git.steps.translate import adopt, interpret

    experiment = open_experiment(protocol)
    experiment = replace(experiment, directive=experiment.directive if text is None else text)
    if not experiment.directive.strip():
        raise UsageError('name a directive: poise-git directive "accurate and concise"')
    translator = agent_for(experiment, agent)
    reading = interpret(experiment, translator)
    if commit:
        _, kept = adopt(experiment, reading, translator)
        for file in kept:
            echo(kept_edits_text(file), err=True)
    else:
        experiment.archive.write_calls("directive", translator.calls)
    if as_json:
        print_json({"directive": experiment.directive, **reading.to_data(), "committed": commit})
        return
    echo("\n".join(interpretation_lines(experiment.directive, reading)))
    if reading.objective is not None:
        echo("\n" + dump_yaml({"objective": reading.objective.to_data()}).rstrip())
        if not commit:
            echo("\nTo use it, run the same command with --commit, or add the block to poise.yaml and commit the file")
