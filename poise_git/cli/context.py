from __future__ import annotations

import click

from poise_git.cli.common import candidate_argument, json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo


@click.command(name="context", epilog="Example: poise-git -C my-search context av-grpo | less")
@candidate_argument()
@protocol_option
@json_option
def command(candidate: str, protocol: str | None, as_json: bool) -> None:
    """Show the context of an agent that proposes a child of CANDIDATE.

    This is the exact text for the next round: the parent's code and evidence, its lineage, other candidates, failures,
    principles and literature. Each item states why it is included. The end lists the items that the token budget left
    out. This writes nothing.
    """
    from poise_git.cli.sessions import next_round
    from poise_git.search.context.rendering import tokens

    upcoming = next_round(open_experiment(protocol))
    parent = upcoming.parent(candidate)
    context = upcoming.contexts.of(parent, upcoming.genealogy.by_name)
    text = upcoming.contexts.brief.renderer.render(context)
    if as_json:
        print_json(
            {
                "parent": parent,
                "tokens": tokens(text),
                "budget": context.budget,
                "items": [
                    {"kind": item.kind, "name": item.name, "reason": item.reason, "text": item.text}
                    for item in context.items
                ],
                "dropped": [
                    {"kind": item.kind, "name": item.name, "tokens": tokens(item.text)} for item in context.dropped
                ],
            }
        )
        return
    echo(text, nl=False)
    if tokens(text) > context.budget:
        echo(
            f"poise-git: the context has {tokens(text)} tokens, above the budget of {context.budget}, and no item "
            "is left to drop; raise search.context_tokens in poise.yaml",
            err=True,
        )
