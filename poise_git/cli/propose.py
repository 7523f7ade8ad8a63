from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poise_git.cli.common import candidate_argument, json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo

if TYPE_CHECKING:
    from poise_git.archive import Archive

NEXT = """
Next, with plain git:
  git switch -c poise/NAME poise/{parent}
  $EDITOR recipe/algorithm.py        change one mechanism, in its stage function, and nothing else
  git commit -a                      write the proposal as the commit message
  poise-git evaluate NAME            train it and archive the result; a running evolve does this by itself

The template of the message:

{template}"""


@click.command(
    name="propose",
    epilog="""\b
Examples:
  poise-git propose av-grpo                  show the agent's proposals with verdicts
  poise-git propose av-grpo --agent human    print the context, the next commands and a message template
""",
)
@candidate_argument()
@click.option("--agent", help="Agent that proposes (default: agent in poise.yaml)")
@protocol_option
@json_option
def command(candidate: str, agent: str | None, protocol: str | None, as_json: bool) -> None:
    """Show proposals for a child of CANDIDATE, or instructions to write one.

    This checks out nothing, and writes only the cost of paid calls, to the journal.
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
        echo(f"the agent has no proposal for {parent}")
    else:
        echo("\n".join(screening_lines(upcoming.number, slot)))


def message_template(archive: Archive) -> str:
    """The archive's template of a candidate's message, or the shipped one if it has none."""
    from poise_git.experiment import BRANCH
    from poise_git.package_data import template_files

    file = "candidate-message.txt"
    return archive.read_text(BRANCH, file) or template_files()[file]
