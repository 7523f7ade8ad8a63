from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poise_git.cli.common import candidate_argument, json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo

if TYPE_CHECKING:
    from poise_git.archive import Archive

NEXT = """
Next, by plain git:
  git switch -c poise/NAME poise/{parent}
  $EDITOR recipe/algorithm.py        one mechanism, in the stage function that it touches; nothing else changes
  git commit -a                      the message is the proposal
  poise-git evaluate NAME            trains it and archives what it did; a running evolve does so by itself

The message, by which the hypothesis will be judged:

{template}"""


@click.command(
    name="propose",
    epilog="""\b
Examples:
  poise-git propose av-grpo                  what the agent would propose, with verdicts; nothing is written
  poise-git propose av-grpo --agent human    the context, what to type, and a template of the message
""",
)
@candidate_argument()
@click.option("--agent", help="Who proposes (poise.yaml: agent).")
@protocol_option
@json_option
def command(candidate: str, agent: str | None, protocol: str | None, as_json: bool) -> None:
    """Proposals for a child of C, or what a person needs to make one.

    Nothing is written or checked out; what paid calls have cost is journalled.
    """
    from poise_git.archive import HUMAN
    from poise_git.cli.render import screening_lines
    from poise_git.cli.sessions import next_round, propose_once
    from poise_git.search.context.rendering import tokens

    experiment = open_experiment(protocol)
    upcoming = next_round(experiment)
    parent = upcoming.parent(candidate)
    if (agent or experiment.settings.agent) == HUMAN:
        context = upcoming.contexts.of(parent, upcoming.genealogy.by_name)
        text = upcoming.contexts.brief.renderer.render(context)
        steps = NEXT.format(parent=parent, template=message_template(experiment.archive))
        if as_json:
            print_json({"parent": parent, "context": text, "tokens": tokens(text), "next": steps.strip()})
        else:
            echo(text + steps, nl=False)
        return
    slot = propose_once(experiment, upcoming, parent, agent)
    if as_json:
        print_json({"parent": parent, "proposals": [entry.to_data() for entry in slot.proposals]})
    elif not slot.proposals:
        echo(f"nothing to propose for {parent}")
    else:
        echo("\n".join(screening_lines(upcoming.number, slot)))


def message_template(archive: Archive) -> str:
    """The parts of a candidate's message, as the archive has them, or else the template of new archives."""
    from poise_git.experiment import BRANCH
    from poise_git.package_data import template_files

    file = "candidate-message.txt"
    return archive.read_text(BRANCH, file) or template_files()[file]
