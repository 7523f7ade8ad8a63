from __future__ import annotations

import click

from poise_git.cli.common import candidate_argument, json_option, open_archive, print_json
from poise_git.cli.output import echo


@click.command(name="diff", epilog="Example: poise-git -C my-search diff vm-av-grpo grpo")
@candidate_argument("a")
@candidate_argument("b", required=False)
@json_option
def command(a: str, b: str | None, as_json: bool) -> None:
    """Show the changes of A from its parent, or from B."""
    from poise_git.errors import UsageError

    archive = open_archive()
    of = archive.resolve(a)
    if b is None and not of.parents:
        raise UsageError(
            f"{of.name} is the root and has no parent; name a second candidate: poise-git diff {of.name} B"
        )
    against = archive.resolve(b if b is not None else of.parents[0])
    patch = archive.diff(against.commit, of.commit)
    if as_json:
        print_json({"name": of.name, "against": against.name, "patch": patch})
    else:
        echo(patch, nl=False)
